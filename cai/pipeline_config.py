"""The settings of a dataset run, and which of them decide its rows.

Light: importable without any engine. Start from `GenerateConfig`; `settle` gives what a resumed
run must have in common with the sessions before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai.constitution.schema import Constitution
from cai.critique import prompts as critique_prompts
from cai.dataset.prompts import PromptFile
from cai.feedback import prompts as judge_prompts
from cai.feedback import reasoning
from cai.feedback.config import JudgeConfig, RankingConfig
from cai.feedback.ranking import MAX_ANSWERS
from cai.types import Sampling
from cai.yamlguard import dump_yaml

NO_JUDGE = "none"

# These say when to stop or how fast to go; a run may go on under others.
_NOT_SETTLED: dict[str, Any] = {
    "max_in_flight": True,
    "limits": True,
    "canaries": {"min_asked", "max_failure_share", "on_failure"},
}


class GenerateConfig(BaseModel):
    """One run of `cai data generate`. The defaults are the recipe we would run ourselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: Path = Field(description="File of prompts: .jsonl, .jsonl.gz, .txt or .txt.gz.")
    out: Path = Field(description="The run directory; made when it is not there.")
    constitution: str = Field(
        "harmless", description="name@version, name@draft, or name for its newest release."
    )
    engine: str = Field("sandbox", description="Engine address of the policy that answers.")
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="The engine's own arguments, by name."
    )
    revisions: int = Field(
        1, ge=0, le=16, description="Critique-revision steps per input, 0 to 16; 0 drafts only."
    )
    principles: tuple[str, ...] | None = Field(
        None, min_length=1, description="Principle ids taken in turn; without it, one is drawn."
    )
    limit: int | None = Field(
        None, ge=1, description="Stop after this many inputs. A later run may raise it."
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Decides the draws of principles, by row and step."
    )
    concurrency: int = Field(
        256, ge=1, le=4096, description="Inputs in flight at once, 1 to 4096; decides only speed."
    )
    max_tokens: int = Field(
        512, ge=1, le=1_000_000, description="Most tokens of a draft, a critique or a revision."
    )
    temperature: float = Field(1.0, ge=0, le=2, description="Sampling temperature, 0 to 2.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling, above 0 to 1.")

    samples: int = Field(
        1, ge=1, le=MAX_ANSWERS, description="Drafts per input, 1 to 9; the first one is revised."
    )
    judge: str | None = Field(
        None,
        min_length=1,
        description="Engine address of the judge; without it the policy judges, 'none' for no one.",
    )
    judge_args: dict[str, Any] = Field(
        default_factory=dict, description="The arguments of a judge that has its own engine."
    )
    judging: JudgeConfig = Field(
        default_factory=JudgeConfig, description="How pairs are asked about and what is refused."
    )
    ranking: RankingConfig = Field(
        default_factory=RankingConfig, description="Which answers meet, and which pairs are kept."
    )

    @model_validator(mode="after")
    def _can_make_pairs(self) -> Self:
        if not self.is_judged:
            if self.samples > 1:
                raise ValueError("several samples need a judge; leave samples out or name a judge")
            return self
        if self.samples + self.revisions > MAX_ANSWERS:
            raise ValueError(
                f"samples and revisions together give up to {self.samples + self.revisions} "
                f"answers, a ranking takes {MAX_ANSWERS}; ask for fewer"
            )
        if self.samples == 1 and self.revisions == 0:
            raise ValueError(
                "one draft and no revision leave nothing to compare; set samples to 2 or more, "
                "or revisions to 1 or more, or judge to 'none'"
            )
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples at temperature 0 are all the same; set temperature above 0")
        if self.judge_args and self.judge in (None, self.engine):
            raise ValueError(
                "judge_args need a judge on its own engine; the policy's are engine_args"
            )
        return self

    @property
    def is_judged(self) -> bool:
        """Whether the run makes pairs; without a judge it keeps whole transcripts."""
        return self.judge != NO_JUDGE

    def sampling(self) -> Sampling:
        """How the policy is sampled."""
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p)

    def to_yaml(self) -> str:
        """The resolved settings as a file that `--config` reads again."""
        return dump_yaml(self.model_dump(mode="json", exclude_none=True))


def settle(
    config: GenerateConfig, constitution: Constitution, prompts: PromptFile
) -> dict[str, Any]:
    """Every setting that decides the rows, as flat JSON.

    Left out are `out`, `concurrency`, and `limit`, which says only how far to go; files and
    constitutions stand by their content.
    """
    settled: dict[str, Any] = {
        "prompts": prompts.digest,
        "constitution": constitution.ref,
        "constitution_digest": constitution.digest,
        "engine": config.engine,
        "engine_args": config.engine_args,
        "revisions": config.revisions,
        "principles": None if config.principles is None else list(config.principles),
        "seed": config.seed,
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "critique_template": critique_prompts.DIGEST,
        "judges": config.is_judged,
    }
    if config.is_judged:
        judging = config.judging.model_dump(mode="json", exclude=_NOT_SETTLED)
        reasons = config.judging.cot
        settled |= {
            "samples": config.samples,
            "judge": config.judge or config.engine,
            "judge_args": config.judge_args,
            "judge_template": reasoning.DIGEST if reasons else judge_prompts.DIGEST,
            **_flat("judging", judging),
            **_flat("ranking", config.ranking.model_dump(mode="json")),
        }
    return settled


def _flat(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings under their dotted names, so that one that differs can be told by name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(f"{name}.{key}", value) if isinstance(value, dict) else {f"{name}.{key}": value}
        )
    return flat
