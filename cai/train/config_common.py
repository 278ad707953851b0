"""The settings that every trainer has. Light: importable without torch.

A setting whose default is None is chosen by the model's size and the device; `resolved` fills them
in, and the filled-in config is what is saved beside the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SEVEN_BILLION = 7e9
_LORA_FACTOR = 10  # the best rate of LoRA over that of full training: Schulman et al. 2025
_LARGEST_LEARNING_RATE = 2e-3
_CHECKPOINTED_FROM = 1_000_000_000  # parameters
_WHOLE_BATCH_UP_TO = 50_000_000  # parameters
_LONGEST = 2048  # tokens

# These say where to write, how far to look and how fast to go; a run may go on under others.
NOT_SETTLED = frozenset({"run_dir", "out", "name", "policy", "data", "report_to", "num_threads"})


class LoraConfig(BaseModel):
    """Low-rank adapters instead of full training (Hu et al. 2021)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the update of each matrix, 1 to 1024."""
    alpha: float = Field(default=32.0, gt=0, le=4096, allow_inf_nan=False)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs dropped in training, 0 to below 1."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that are adapted; all linear ones but the head by default."""
    merge: bool = True
    """Export whole weights, which every engine loads; false exports the adapter alone."""


class CommonConfig(BaseModel):
    """What to train from what to where, and how. Defaults are the recipe we would run ourselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    LEARNING_RATE_AT_7B: ClassVar[float] = 1e-5
    LEARNING_RATE_EXPONENT: ClassVar[float] = 0.5

    policy: str = Field(default="sandbox", min_length=1)
    """The model to start from: `sandbox`, a folder, the name of a policy, or a hub id."""
    data: tuple[Path, ...] = Field(min_length=1)
    """Run directories of `cai data`, or .jsonl files; at least one."""
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    """Name of the policy that comes out: small letters, digits, dots, dashes; up to 64."""
    run_dir: Path
    """Folder for what training itself needs: checkpoints, curves, the resolved config."""
    out: Path
    """Folder of the finished policy; written whole at the end, or not at all."""

    seed: int = Field(default=7, ge=0, lt=2**31)
    """Decides the split, the order of rows, dropout and new weights."""
    epochs: float = Field(default=1.0, gt=0, le=1000)
    """Passes over the training rows, above 0 to 1,000; parts of one are allowed."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimizer steps, whatever `epochs` says."""
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Peak rate of AdamW. None: that of a 7B model times √(7e9 / parameters), for dpo that to the
    power 2/3; ten times that for LoRA; at most 2e-3. The rate at 7B is 1e-5 for sft and reward,
    1e-6 for dpo and ppo."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up: to 0 along a cosine or a line, or not at all."""
    warmup_share: float = Field(default=0.05, ge=0, le=0.5)
    """Share of the steps in which the rate rises to its peak, 0 to 0.5."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """AdamW's decay per step, as a share of the rate, 0 to 1."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Rows in one optimizer step, all devices together."""
    micro_batch_size: int | None = Field(default=None, ge=1, le=65_536)
    """Rows that one device computes at once; a divisor of its share of `batch_size`. None: the
    whole share up to 50M parameters, else 4 (1 from 3B on)."""
    max_length: int | None = Field(default=None, ge=8, le=1_000_000)
    """Tokens of the longest row. None: the model's context, at most 2,048. Of a longer row the
    oldest turns are left out; if that is not enough, the row. An answer is never cut."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e6)
    """The gradient's norm is clipped to this."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What is computed in; trained weights are kept in fp32 in any case. auto: bf16 where the GPU
    has it, else fp32."""
    gradient_checkpointing: bool | None = None
    """Compute activations twice instead of keeping them. None: from 1B parameters on."""
    lora: LoraConfig | None = None
    """Train adapters instead of all weights; `true` takes the defaults."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts kept for validation, above 0 to below 1. No prompt is in both parts."""
    evals_per_epoch: int = Field(default=2, ge=1, le=1000)
    """Validations in one epoch; there is one at the end too. A run with a judge has eight or so in
    all, or nothing could be seen to turn."""
    patience: int | None = Field(default=3, ge=1)
    """Stop after this many validations without a new best. The best one's weights are kept in any
    case. None: never stop early."""
    saves_per_epoch: int = Field(default=2, ge=1, le=1000)
    """Checkpoints in one epoch, from which a stopped run goes on."""
    num_threads: int | None = Field(default=None, ge=1, le=4096)
    """Processor threads of torch; None leaves torch's choice. Other numbers round differently."""
    report_to: tuple[str, ...] = ()
    """Trackers that transformers knows (ppo: accelerate): tensorboard, wandb, mlflow, trackio, …"""
    num_probes: int = Field(default=32, ge=1, le=1024)
    """Texts whose log-probs are stored with the policy, to recognise it once it is loaded."""

    @field_validator("lora", mode="before")
    @classmethod
    def _lora_switch(cls, value: Any) -> Any:
        return ({} if value else None) if isinstance(value, bool) else value

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_tracker(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> Self:
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of micro_batch_size "
                f"{self.micro_batch_size}; change one of them"
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
        """The config with every choice made, for a model of that size and `context` in tokens.

        `world_size` counts the processes that share a batch. Raises ValueError when `batch_size`
        cannot be shared evenly between them.
        """
        share, left = divmod(self.batch_size, world_size)
        if left or not share:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of the {world_size} processes"
            )
        chosen: dict[str, Any] = {
            "learning_rate": self._learning_rate(num_parameters),
            "micro_batch_size": _divisor(share, _rows_at_once(num_parameters, share)),
            "max_length": min(_LONGEST, context or _LONGEST),
            "gradient_checkpointing": num_parameters >= _CHECKPOINTED_FROM,
        }
        values = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        if self.max_length is not None and context is not None:
            values["max_length"] = min(self.max_length, context)
        if self.micro_batch_size is not None and share % self.micro_batch_size:
            raise ValueError(
                f"a process's share of the batch, {share} rows, is no multiple of "
                f"micro_batch_size {self.micro_batch_size}"
            )
        if self.precision == "auto":
            values["precision"] = "bf16" if has_bf16 else "fp32"
        return self.model_copy(update=values)

    def settled(self) -> dict[str, Any]:
        """Every setting that decides the result, as flat JSON; files stand by their content."""
        return flat(self.model_dump(mode="json", exclude=set(NOT_SETTLED)))

    def _learning_rate(self, num_parameters: int) -> float:
        ratio = SEVEN_BILLION / max(num_parameters, 1)
        rate = self.LEARNING_RATE_AT_7B * ratio**self.LEARNING_RATE_EXPONENT
        rate *= _LORA_FACTOR if self.lora is not None else 1
        return float(f"{min(rate, _LARGEST_LEARNING_RATE):.2g}")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, so that one that differs can be told by name."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _rows_at_once(num_parameters: int, share: int) -> int:
    if num_parameters <= _WHOLE_BATCH_UP_TO:
        return share
    return 4 if num_parameters < 3_000_000_000 else 1


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of `number` that is not above `at_most`."""
    return next(one for one in range(min(number, at_most), 0, -1) if number % one == 0)
