"""Settings of PPO. Light. The fields of `CommonConfig` are its too.

`epochs` counts passes over the prompts, `batch_size` the episodes of one optimizer step, and
`learning_rate` is the policy's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from cai.train.config_common import CommonConfig, LoraConfig
from cai.train.watch import WatchConfig

_VALUE_FACTOR = 5  # rate of the value model over the policy's


class PpoConfig(CommonConfig):
    """Proximal policy optimisation against a reward, held to a reference by its KL divergence."""

    LEARNING_RATE_AT_7B: ClassVar[float] = 1e-6

    type: Literal["ppo"] = "ppo"
    """Names the trainer."""
    epochs: float = Field(default=8.0, gt=0, le=1000)
    """Passes over the prompts, above 0 to 1,000; parts of one are allowed. Some 10,000 episodes are
    enough for a small model, so one pass over many prompts."""
    reward: str | None = Field(default=None, min_length=1)
    """Reward model: a folder, the name of a policy, or http(s)://… of a remote one."""
    judge: str | None = Field(default=None, min_length=1)
    """Engine address of an AI judge. Beside `reward` it watches how often held-out answers beat the
    reference's greedy ones. Without `reward`, that probability, 0 to 1, is the reward itself."""
    constitution: str | None = Field(default=None, min_length=1)
    """What the judge judges by: name@version."""
    watch: WatchConfig = WatchConfig()
    """When the run is stopped for having gone too far from the reference."""

    rollouts: Literal["vllm", "torch"] = "vllm"
    """What samples the episodes: vLLM, or torch itself, which is slow and needs no engine."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """VLLM's engine arguments by name, such as gpu_memory_utilization."""
    rollout_size: int = Field(default=256, ge=1, le=1_000_000)
    """Episodes sampled in one iteration."""
    max_new_tokens: int = Field(default=256, ge=1, le=100_000)
    """Tokens of the longest answer."""
    push_tolerance: float | None = Field(default=None, gt=0)
    """Nats by which a probe's log-prob may differ in the engine after each handing over of weights;
    beyond, the run stops. None: what `cai.policy.probes` allows for the engine's precision."""
    gap_limit: float = Field(default=0.05, gt=0)
    """Mean difference in nats between the log-probs of engine and trainer that is warned about."""

    ppo_epochs: int = Field(default=4, ge=1, le=100)
    """Passes over the episodes of an iteration."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """The probability ratio counts within 1 ± this."""
    value_clip: float | None = Field(default=0.5, gt=0)
    """A value counts within this of what it was, in units of reward; None does not clip, and
    neither does the critic's warm-up."""
    value_coef: float = Field(default=0.5, ge=0, le=100)
    """Weight of the value loss."""
    value_learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Peak rate of the value model; None: five times `learning_rate`, at most 2e-3."""
    critic_warmup: int = Field(default=1, ge=0, le=10_000)
    """Iterations at the beginning in which the value model alone learns."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """λ of generalised advantage estimation."""
    whiten_advantages: bool = True
    """Give advantages mean 0 and variance 1 over an iteration."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many validations without a new best; None leaves it to the watch: rewards of
    one validation are too noisy to stop by."""

    whiten_rewards: bool = False
    """Divide each token's reward, KL penalty included, by the standard deviation over all tokens of
    an iteration. The mean is not shifted: that would pay or fine every token for being there."""
    reward_clip: float | None = Field(default=10.0, gt=0)
    """Rewards count within ± this; None does not clip."""
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    """Taken off the reward of an answer that does not end within `max_new_tokens`."""
    kl_coef: float = Field(default=0.05, ge=0, le=100)
    """Penalty per nat of KL to the reference, in units of reward."""
    kl_estimator: Literal["k1", "k3"] = "k1"
    """Schulman's estimators of the KL of a token. As a reward, only k1 leads to the optimum
    π ∝ π_ref · exp(reward / kl_coef); k3 varies less and pulls harder on tokens that grew rare."""
    kl_target: float | None = Field(default=None, gt=0)
    """KL per answer in nats that an adaptive coefficient steers to; None keeps it fixed."""
    kl_horizon: int = Field(default=10_000, ge=1)
    """Episodes over which the adaptive coefficient moves by a fifth at most: `rollout_size` or
    more."""

    @field_validator("lora")
    @classmethod
    def _is_merged(cls, lora: LoraConfig | None) -> LoraConfig | None:
        if lora is not None and not lora.merge:
            raise ValueError("ppo exports whole weights; leave merge out")
        return lora

    @model_validator(mode="after")
    def _has_a_reward(self) -> Self:
        if self.reward is None and self.judge is None:
            raise ValueError("ppo needs a reward model; set reward or judge, or use cai train dpo")
        if self.judge is not None and self.constitution is None:
            raise ValueError("the judge needs a constitution; set constitution, as in harmless@2")
        return self

    @model_validator(mode="after")
    def _has_a_slow_coefficient(self) -> Self:
        if self.kl_target is not None and self.kl_horizon < self.rollout_size:
            raise ValueError(
                f"kl_horizon {self.kl_horizon} is below rollout_size {self.rollout_size}; raise it "
                "to that at least, or the KL coefficient may fall below 0"
            )
        return self

    def resolved(
        self,
        num_parameters: int,
        *,
        context: int | None = None,
        world_size: int = 1,
        has_bf16: bool = False,
    ) -> Self:
        """As `CommonConfig.resolved`, with the value model's rate."""
        found = super().resolved(
            num_parameters, context=context, world_size=world_size, has_bf16=has_bf16
        )
        if self.value_learning_rate is not None:
            return found
        assert found.learning_rate is not None, "resolved just now"
        rate = min(found.learning_rate * _VALUE_FACTOR, 2e-3)
        return found.model_copy(update={"value_learning_rate": float(f"{rate:.2g}")})
