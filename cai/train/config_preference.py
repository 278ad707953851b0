"""Settings of the trainers that learn from pairs: the reward model and DPO. Light.

The fields of `CommonConfig` are theirs too.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from cai.train.config_common import CommonConfig, LoraConfig
from cai.train.watch import WatchConfig


class RewardConfig(CommonConfig):
    """A reward model: a number per answer, whose differences are log-odds of being preferred."""

    LEARNING_RATE_AT_7B: ClassVar[float] = 1e-5

    type: Literal["reward"] = "reward"
    """Names the trainer."""
    epochs: float = Field(default=2.0, gt=0, le=1000)
    """Passes over the training pairs, above 0 to 1,000. A large model with many pairs needs but 1:
    more fits the pairs themselves (Ouyang et al. 2022). The best validation's weights are kept."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Pairs in one optimizer step, all devices together."""
    soft_labels: bool = True
    """Learn `p_chosen` itself; false takes the likelier answer as simply better."""
    margin: float = Field(default=0.0, ge=0, le=100)
    """Log-odds by which the better answer must win, times 2·p_chosen - 1 of its row."""
    centring: float = Field(default=0.01, ge=0, le=10)
    """Weight of the squared sum of a pair's rewards, which holds their mean at 0."""
    per_prompt_weight: bool = True
    """Count a prompt once however many pairs it has, as InstructGPT does for rankings."""

    @field_validator("lora")
    @classmethod
    def _is_merged(cls, lora: LoraConfig | None) -> LoraConfig | None:
        if lora is not None and not lora.merge:
            raise ValueError("a reward model is exported whole; leave merge out")
        return lora


class DpoConfig(CommonConfig):
    """Direct preference optimisation with soft labels and an SFT term."""

    LEARNING_RATE_AT_7B: ClassVar[float] = 1e-6
    LEARNING_RATE_EXPONENT: ClassVar[float] = 2 / 3  # 3e-4 for the sandbox's model, as measured

    type: Literal["dpo"] = "dpo"
    """Names the trainer."""
    epochs: float = Field(default=2.0, gt=0, le=1000)
    """Passes over the training pairs, above 0 to 1,000. The best validation's weights are kept."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Pairs in one optimizer step, all devices together."""
    soft_labels: bool = True
    """Learn `p_chosen` itself; false takes the likelier answer as simply better."""
    beta: float = Field(default=0.3, gt=0, le=100)
    """Strength of the pull to the reference, above 0 to 100. A label p is met where the log-ratio
    reaches logit(p) / beta, so labels that are not sure want a smaller one: 0.1 for labels of 0.8
    did on the sandbox what 0.3 does for sure ones. For a model of 7B 0.1 is usual."""
    sft_weight: float = Field(default=1.0, ge=0, le=100)
    """Weight of the log-likelihood of the chosen answer; 0 is plain DPO."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped, 0 to below 0.5."""
    length_normalised: bool = False
    """Take log-ratios per token instead of per answer."""
    per_prompt_weight: bool = False
    """Count a prompt once however many pairs it has."""

    watch: WatchConfig = WatchConfig()
    """When the run is stopped for having gone too far from the reference."""
    num_watched: int = Field(default=32, ge=0, le=10_000)
    """Held-out prompts that are answered at each validation, to be watched and judged."""
    max_new_tokens: int = Field(default=128, ge=1, le=100_000)
    """Tokens of the longest of these answers."""
    judge: str | None = Field(default=None, min_length=1)
    """Engine address of an AI judge that compares these answers with the reference's."""
    constitution: str | None = Field(default=None, min_length=1)
    """What the judge judges by: name@version."""

    @model_validator(mode="after")
    def _judge_has_a_constitution(self) -> Self:
        if self.judge is not None and self.constitution is None:
            raise ValueError("the judge needs a constitution; set constitution, as in harmless@2")
        return self
