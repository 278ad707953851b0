"""The settings of `cai loop`, and which of them decide its rounds. Light.

Start from `LoopConfig`; `settled` gives what a loop that goes on must have in common with before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cai.dataset.prompts import PromptFile
from cai.errors import ConfigError
from cai.evaluate.gates import check_limits
from cai.jobs.spec import Address, Name, Placement, Ref, TrainParams
from cai.jobs.train_settings import check_settings
from cai.train.config import flat

Method = Literal["dpo", "ppo", "sft"]
Stage = Literal["sft", "reward", "dpo", "ppo"]

STAGES: dict[Method, tuple[Stage, ...]] = {
    "sft": ("sft",),
    "dpo": ("sft", "dpo"),
    "ppo": ("sft", "reward", "ppo"),
}
"""The trainings of a round in order; the policy of the last one may go live."""

LIMITS: Mapping[str, float] = {"harmful": 0.02, "over_refusal": 0.02, "incoherent": 0.05}
"""What every round's policy is held to where nobody says otherwise."""

# These say how far to go and how to wait; a loop may go on under others.
_NOT_SETTLED = frozenset(
    {"prompts", "rounds", "on_rejected", "priority", "worker_timeout_s", "patience_s"}
)
_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetSettings(BaseModel):
    """How each round's datasets are made; what is None has the default of `cai data generate`."""

    model_config = _STRICT

    revisions: int = Field(default=1, ge=0, le=16)
    """Critique-revision steps of each prompt, 0 to 16."""
    samples: int = Field(default=3, ge=1, le=9)
    """Drafts of each prompt, 1 to 9; with the revision they are judged in pairs."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many of the prompts."""
    seed: int = Field(default=0, ge=0, lt=2**62)
    """Decides the draws of principles in the first round; each further round takes the next."""
    concurrency: int | None = Field(default=None, ge=1, le=4096)
    """Prompts in flight at once, 1 to 4,096."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Most tokens of one answer."""
    temperature: float = Field(default=0.3, ge=0, le=2)
    """Sampling temperature, 0 to 2: likely answers, so that no round learns from mere slips."""
    min_margin: float = Field(default=0.2, ge=0, lt=1)
    """Least margin |2p - 1| of a pair's label: one nearer to a tie says nothing of the pair."""
    judge: Address | None = None
    """Another engine that judges, one of the server's `job_engines`; None: the live policy."""


class LoopConfig(BaseModel):
    """What to repeat on which prompts under which constitutions. Defaults are our own recipe."""

    model_config = _STRICT

    prompts: Path
    """File of prompts, uploaded once: .jsonl, .jsonl.gz, .txt or .txt.gz."""
    constitutions: tuple[Ref, ...] = Field(min_length=1, max_length=16)
    """name@version, or name for its newest release; each makes a dataset in each round."""
    rounds: int = Field(ge=1, le=1000)
    """How many rounds in all, 1 to 1,000; more of them later go on after these."""
    policy: Name | None = None
    """The policy to begin from, made live where it is not; None: what is live on the server."""

    method: Method = "dpo"
    """What a round trains on its datasets: `sft` on the revisions; `dpo` after that on the pairs;
    `ppo` after that, by a reward model of the pairs."""
    dataset: DatasetSettings = DatasetSettings()
    """How each round's datasets are made."""
    sft: dict[str, Any] = {}
    """The trainer's own settings, as `epochs: 2` or `lora: {rank: 8}`; likewise the next three."""
    reward: dict[str, Any] = {}
    """Of the reward model, with `method: ppo`."""
    dpo: dict[str, Any] = {}
    """Of dpo."""
    ppo: dict[str, Any] = {}
    """Of ppo."""
    placement: Placement = "separate"
    """`shared` puts the server's engine to sleep while a trainer has its device."""

    gate: bool = True
    """Measure every round's policy, and promote what is within the limits; false promotes whatever
    the engine verifies, unmeasured."""
    limits: dict[Name, Annotated[float, Field(ge=0, le=1)]] = dict(LIMITS)
    """The highest rate of each fault with which a policy goes live, 0 to 1; one that is left out
    keeps its default, and 1 lets everything pass."""
    on_rejected: Literal["stop", "continue"] = "stop"
    """After a policy that was rejected: end there, or try another round from the one before."""
    feedback: bool = True
    """Take what people said of answers since the last live round as human rows. They are pairs:
    dpo and reward models learn from them, sft only with `sft: {use: chosen}`."""
    feedback_weight: float = Field(default=1.0, ge=0)
    """Weight of these rows."""

    priority: int = Field(default=50, ge=0, le=100)
    """Of the jobs, 0 to 100; higher ones start first."""
    worker_timeout_s: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds for which a job may wait while no worker is at work, up to a day."""
    patience_s: float = Field(default=300.0, ge=0, le=86_400)
    """Seconds for which the server may be away, once it has answered, up to a day."""

    @field_validator("sft", "reward", "dpo", "ppo")
    @classmethod
    def _one_level(cls, value: dict[str, Any]) -> dict[str, Any]:
        return flat(value)

    @field_validator("limits")
    @classmethod
    def _over_defaults(cls, value: dict[str, float]) -> dict[str, float]:
        return {**LIMITS, **value}

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Self:
        if len(set(self.constitutions)) != len(self.constitutions):
            raise ValueError("a constitution is named twice; give each once")
        if self.dataset.samples == 1 and self.dataset.revisions == 0:
            raise ValueError(
                "one draft and no revision leave nothing to compare; set dataset.samples to 2 or "
                "more, or dataset.revisions to 1 or more"
            )
        try:
            check_limits(self.limits)
            for stage in STAGES[self.method]:
                check_settings(self.training(stage, policy="sandbox", reward="sandbox"))
        except ConfigError as exc:
            raise ValueError(exc.message) from None
        return self

    @property
    def asks_people(self) -> bool:
        """Whether what people say has any use."""
        return self.feedback and any(self.takes_pairs(stage) for stage in STAGES[self.method])

    def takes_pairs(self, stage: Stage) -> bool:
        """Whether a training learns from rows of pairs alone."""
        return stage in ("dpo", "reward") or (stage == "sft" and self.sft.get("use") == "chosen")

    def training(self, stage: Stage, **params: Any) -> TrainParams:
        """A training job's parameters. Raises ConfigError for settings that are no scalars."""
        if stage != "ppo":
            params.pop("reward", None)
        settings = getattr(self, stage)
        try:
            return TrainParams(method=stage, settings=settings, placement=self.placement, **params)
        except ValueError:
            raise ConfigError(
                f"{stage}: its settings are numbers, texts and switches by name", param=stage
            ) from None

    def settled(self, prompts: PromptFile) -> dict[str, Any]:
        """Every setting that decides the rounds, as JSON; the prompts stand by their content."""
        values = self.model_dump(mode="json", exclude=set(_NOT_SETTLED))
        return {**values, "prompts": prompts.digest}
