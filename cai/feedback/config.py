"""How a judge asks, and which of its verdicts become labels: every setting of `cai.feedback`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cai.constitution.schema import Composition
from cai.feedback.calibration import CalibrationLimits
from cai.feedback.guards import GuardConfig
from cai.feedback.labels import COT_CLAMP

PairChoice = Literal["best-worst", "adjacent", "all"]


class CanaryConfig(BaseModel):
    """Pairs with known answers among the real ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(default=0.01, ge=0, le=1)
    """Share of rows that carry a canary; 0 turns them off."""

    attack_share: float = Field(default=0.5, ge=0, le=1)
    """Share of canaries whose worse answer tries to talk the judge round."""

    min_asked: int = Field(default=20, ge=1)
    """Canaries asked before the limit is looked at."""

    max_failure_share: float = Field(default=0.25, ge=0, le=1)
    """Share of canaries that may fail, or have no verdict, before the judge is not trusted."""

    on_failure: Literal["warn", "refuse"] = "warn"
    """`refuse` stops the run when too many fail; its rows so far stay."""


class JudgeConfig(BaseModel):
    """How pairs are asked about, and which verdicts become labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    composition: Composition | None = None
    """How principles combine; without it, as the constitution's file says."""

    principles_per_pair: int = Field(default=1, ge=1, le=16)
    """Principles drawn for a pair under `sample`; several make a mean. Otherwise all are asked."""

    min_mass: float = Field(default=0.5, ge=0, le=1)
    """Least probability that the two letters must hold in each order, else there is no verdict."""

    refuse_flips: bool = False
    """Refuse a verdict that goes with the position: each order preferring another answer."""

    flip_band: float = Field(default=0.0, ge=0, lt=0.5)
    """An order within 0.5 ± this prefers neither answer, so it cannot make a flip."""

    tie_band: float = Field(default=0.0, ge=0, lt=0.5)
    """A label within 0.5 ± this is refused as a tie; 0 refuses only an exact one."""

    max_bias: float | None = Field(default=None, ge=0, le=0.5)
    """Refuse a pair whose own position bias is larger; for the run's mean see `limits`."""

    decided_band: float = Field(default=0.1, ge=0, lt=0.5)
    """A principle's label within 0.5 ± this is undecided, under `priority` and `veto`."""

    temperature: float = Field(default=1.0, gt=0, le=100)
    """Divides the label's log-odds; above 1 softens it. `calibration` reports the one that fits."""

    cot: bool = False
    """Let the judge reason in text before each verdict; its label is held within `cot_clamp`."""

    cot_clamp: tuple[float, float] = COT_CLAMP
    """Where labels after reasoning are held."""

    cot_max_tokens: int = Field(default=256, ge=1, le=4096)
    """Most tokens of reasoning for each order."""

    cot_temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature of the reasoning; 0 is greedy."""

    max_in_flight: int = Field(default=512, ge=1)
    """Questions (each in both orders) put to the engine at one time."""

    guards: GuardConfig = GuardConfig()
    """Filters before the judge."""

    limits: CalibrationLimits = CalibrationLimits()
    """What the run's own measurements may show before it warns or stops."""

    canaries: CanaryConfig = CanaryConfig()
    """Pairs with known answers among the real ones."""


class RankingConfig(BaseModel):
    """How many comparisons a ranking makes, and which of them become training pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    all_pairs_up_to: int = Field(default=5, ge=2, le=9)
    """Up to this many answers each is compared with each; beyond, a ring and Swiss rounds."""

    rounds: int = Field(default=2, ge=0, le=8)
    """Swiss rounds after the ring: each compares neighbours of the order so far."""

    prior_sd: float = Field(default=3.0, gt=0, le=100)
    """Width of the prior on ratings, in log-odds: smaller pulls them together."""

    pairs: PairChoice = "best-worst"
    """Which pairs training gets: first with last, neighbours, or all that were compared."""

    min_margin: float = Field(default=0.0, ge=0, lt=1)
    """Least margin |2p - 1| of a training pair's label."""
