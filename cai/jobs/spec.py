"""What a job is asked to do, and what is known of it: records, without any behaviour.

Files, runs and policies are named by id, never by path. `kinds.parse_spec` makes a `JobSpec` of
what a client sent; the store gives `JobRecord` and `JobEvent`. Light.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cai.errors import InputError

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_REF = r"^[a-z0-9][a-z0-9._-]{0,63}(@([0-9]{1,9}|draft))?$"

Name = Annotated[str, Field(pattern=NAME)]
Ref = Annotated[str, Field(pattern=_REF)]
Address = Annotated[str, Field(min_length=1, max_length=512)]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Placement = Literal["separate", "shared"]
SettingName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63}){0,3}$")]
Scalar = bool | int | float | Annotated[str, Field(max_length=256)] | None

ACTIVE: tuple[State, ...] = ("queued", "running")
"""States of a job that is not over."""


class Record(BaseModel):
    """Strict: no unknown keys, no coercion between types, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DatasetParams(Record):
    """`cai data generate`: what is left out has that command's default."""

    prompts: Name
    """Id of an uploaded file of prompts."""
    constitution: Ref = "harmless"
    """name@version, name@draft, or name for its newest release."""
    run: Name | None = None
    """Name of the run that is written; left out, the job's id."""
    engine: Address | None = None
    """One of the operator's `job_engines`; left out, the policy that is live on the server."""
    judge: Address | None = None
    """Another engine that judges, one of `job_engines`; `none` makes transcripts alone."""
    revisions: int | None = Field(default=None, ge=0, le=16)
    """Critique-revision steps of each input, 0 to 16."""
    samples: int | None = Field(default=None, ge=1, le=9)
    """Drafts of each input, 1 to 9."""
    limit: int | None = Field(default=None, ge=1)
    """Stop after this many inputs."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Decides the draws of principles."""
    concurrency: int | None = Field(default=None, ge=1, le=4096)
    """Inputs in flight at once, 1 to 4,096."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Most tokens of one answer."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sampling temperature, 0 to 2."""
    min_margin: float | None = Field(default=None, ge=0, lt=1)
    """Least margin |2p - 1| of a pair's label; a pair nearer to a tie is left out."""


class TrainParams(Record):
    """`cai train sft|reward|dpo|ppo`."""

    method: Literal["sft", "reward", "dpo", "ppo"]
    """The trainer."""
    data: list[Name] = Field(default=[], max_length=64)
    """Names of runs."""
    files: list[Name] = Field(default=[], max_length=64)
    """Ids of uploaded .jsonl files, beside the runs."""
    policy: Name = "sandbox"
    """The policy that training begins from."""
    name: Name | None = None
    """Name of the policy that comes out; left out, the job's id."""
    reward: Name | None = None
    """The reward model that ppo learns from."""
    settings: dict[SettingName, Scalar] = Field(default={}, max_length=64)
    """The trainer's own settings by name, a nested one with a dot: epochs, lora.rank."""
    placement: Placement = "separate"
    """`shared` puts the server's engine to sleep while the trainer has its device."""


class EvalParams(Record):
    """`cai eval policy`."""

    policies: list[Name] = Field(min_length=1, max_length=16)
    """The policies that are measured."""
    suite: Name | None = None
    """A shipped suite; left out, those that fit the first policy's world."""
    judge: Address | None = None
    """One of the operator's `job_engines`, for a suite with checks by a judge; left out, the
    server's live policy."""
    constitution: Ref | None = None
    """Where a suite's checks name principles: of this one."""
    samples: int | None = Field(default=None, ge=1, le=64)
    """Answers to each prompt, 1 to 64."""
    limit: int | None = Field(default=None, ge=1, le=1_000_000)
    """Only the first so many prompts of each suite."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Decides what engines that honour seeds sample."""
    placement: Placement = "separate"
    """`shared` puts the server's engine to sleep meanwhile."""


class FeedbackParams(Record):
    """`cai data feedback`: what people said of answers, as a run of human rows."""

    run: Name | None = None
    """Name of the run that is written; left out, the job's id."""
    after: int = Field(default=0, ge=0, lt=2**63)
    """Only what was said after this place: `last` in the result of an earlier job."""
    weight: float = Field(default=1.0, ge=0)
    """Weight of every row."""


class LintParams(Record):
    """`cai constitution lint`: what a reader of a constitution would stumble over."""

    constitution: Ref
    """name@version, name@draft, or name for its newest release."""


class CasesParams(Record):
    """`cai constitution test`: a constitution's own cases, put to a judge."""

    constitution: Ref
    """name@version, name@draft, or name for its newest release."""
    engine: Address | None = None
    """One of the operator's `job_engines` that judges; left out, the server's live policy."""
    tags: list[Name] = Field(default=[], max_length=16)
    """Only cases with one of these tags."""
    strict: bool = False
    """The better answer has to win in each order."""


class ImpactParams(Record):
    """`cai constitution impact`: what replacing one version by another would do."""

    old: Ref
    """The constitution as it is."""
    new: Ref
    """The constitution as it would be."""
    prompts: Name
    """Id of an uploaded file of prompts, or of pairs of answers."""
    engine: Address | None = None
    """One of the operator's `job_engines` that judges; left out, the server's live policy."""
    limit: int = Field(default=400, ge=1, le=1_000_000)
    """Most pairs to judge."""
    revise: int = Field(default=8, ge=0, le=10_000)
    """Prompts to revise under both."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides the draws of principles."""


class GateParams(Record):
    """The evaluation gate alone: a policy's figures, and whether they are within the limits."""

    policy: Name
    """The policy that is measured; nothing becomes of it."""
    limits: dict[Name, float] = {}
    """The highest rate of each fault, 0 to 1; left out, the gate's own."""
    placement: Placement = "separate"
    """`shared` puts the server's engine to sleep meanwhile."""


class JobSpec(Record):
    """A job as it was asked for, its parameters checked by its kind."""

    kind: Name
    params: dict[str, Any]
    priority: int = Field(default=50, ge=0, le=100)
    """0 to 100; a queued job of higher priority starts first."""
    auto_promote: bool | dict[Name, float] = False
    """Evaluate the trained policy and promote it when it passes; a mapping sets other limits."""

    @property
    def wants_gate(self) -> bool:
        """Whether the policy that comes out is to be evaluated and promoted."""
        return self.auto_promote is not False

    @property
    def placement(self) -> Placement:
        """Whether the job has devices of its own, or the engine's while the engine sleeps."""
        return "shared" if self.params.get("placement") == "shared" else "separate"

    @property
    def is_shared(self) -> bool:
        """Whether the job has the engine's device while the engine sleeps."""
        return self.placement == "shared"

    @property
    def limits(self) -> dict[str, float]:
        """The gate's limits that the job sets itself."""
        return dict(self.auto_promote) if isinstance(self.auto_promote, dict) else {}


class Progress(Record):
    """How far a job is; `total` is unknown at first."""

    stage: str = "queued"
    done: int | None = None
    total: int | None = None
    note: str = ""


class JobRecord(Record):
    """A job and where it stands. Times are ISO 8601 in UTC."""

    id: str
    kind: str
    state: State
    params: dict[str, Any]
    priority: int
    auto_promote: bool | dict[str, float]
    actor: str
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    """How often it was begun; more than once after a crash."""
    is_cancelling: bool = False
    """Cancelled while it ran; its processes are being stopped."""
    worker: str | None = None
    """The worker that has it, or had it last."""
    progress: Progress = Progress()
    result: dict[str, Any] | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in ACTIVE

    @property
    def spec(self) -> JobSpec:
        """What was asked for."""
        return JobSpec(
            kind=self.kind,
            params=self.params,
            priority=self.priority,
            auto_promote=self.auto_promote,
        )


class JobEvent(Record):
    """One thing that happened to a job; `seq` grows from event to event."""

    seq: int
    job_id: str
    at: str
    type: str
    data: dict[str, Any] = {}


class RequestKey(NamedTuple):
    """A client's Idempotency-Key and body, as digests: the same ones give the same job."""

    key: str
    digest: str


def check_name(value: str, what: str, param: str) -> str:
    """`value` when it is an id. Raises InputError for anything else, a path above all."""
    if not re.fullmatch(NAME.strip("^$"), value):
        raise InputError(
            f"{value[:100]!r} is no id of a {what}: small letters, digits, '.', '_' and '-', "
            "at most 64, never a path",
            param=param,
        )
    return value


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
