"""How much memory and disk a training run needs, at the least, and how much there is.

Start from `estimate`; `check_memory` refuses what is plainly impossible, and `told_when_full` says
what to do where memory ran out all the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cai.errors import ConfigError
from cai.train.config import CommonConfig
from cai.train.facts import ModelFacts

GIB = 2**30
_ADAM_BYTES = 16  # weight, gradient and two moments, in float32
_BYTES_PER_VALUE = 34  # of a layer's hidden size, kept for the gradient: Korthikanti et al. 2022
_NETWORKS = {"sft": 0, "reward": 0, "dpo": 1, "ppo": 2}  # frozen ones beside the trained
_SEQUENCES = {"reward": 2, "dpo": 2}  # of one row: both answers of a pair are computed at once
_SHORT = 64  # tokens: what rows have at the least


class MemoryEstimate(NamedTuple):
    """Bytes on one device: what does not depend on the batch, activations, and what there is."""

    state: int
    activations: int
    available: int | None

    @property
    def total(self) -> int:
        """What is needed together."""
        return self.state + self.activations


def estimate(
    facts: ModelFacts, config: CommonConfig, *, length: int | None = None
) -> MemoryEstimate:
    """Memory for a resolved config; `length` is the longest row in tokens, if known.

    Of a pair that is the longer sequence, and both count. Weights, gradients, AdamW's moments and
    frozen networks, shared out where the run is sharded; activations of one micro-batch without
    attention scores. An estimate, below the real need.
    """
    kind = str(getattr(config, "type", "sft"))
    low = 2 if config.precision == "bf16" else 4
    if config.lora is None:
        trained = facts.num_parameters
        state = _ADAM_BYTES * trained + _NETWORKS[kind] * low * facts.num_parameters
        state += _ADAM_BYTES * trained if kind == "ppo" else 0  # the value model
    else:
        trained = 2 * config.lora.rank * facts.hidden * 7 * facts.layers
        state = low * facts.num_parameters + _ADAM_BYTES * trained
        if kind == "ppo":  # the value model has adapters too; the others are frozen
            state += (1 + _NETWORKS[kind]) * low * facts.num_parameters + _ADAM_BYTES * trained
    assert config.micro_batch_size is not None, "the config is resolved"
    places = config.micro_batch_size * _SEQUENCES.get(kind, 1) * (length or _SHORT)
    per_layer = facts.hidden * low
    if not config.gradient_checkpointing:
        per_layer *= _BYTES_PER_VALUE // 2  # which are counted there at two bytes a number
    logits = facts.vocab * 4 if kind == "ppo" else 0  # TRL's trainers never hold those of a batch
    activations = places * (per_layer * facts.layers + logits)
    return MemoryEstimate(state // _num_shards(), activations, available_memory())


def check_memory(
    facts: ModelFacts, config: CommonConfig, *, length: int | None = None, loaded: int = 0
) -> None:
    """Raise ConfigError where the estimate is above what there is, with the ways out.

    `loaded` bytes of it are in memory already.
    """
    needed = estimate(facts, config, length=length)
    if needed.available is None or needed.total - loaded <= needed.available:
        return
    raise ConfigError(
        f"{facts.ref}: {facts.num_parameters / 1e9:.2g}B parameters need about "
        f"{needed.total / GIB:.1f} GiB to train and {needed.available / GIB:.1f} GiB are free; "
        + ways_out(config, has_large_batches=needed.activations > GIB // 4)
    )


def ways_out(config: CommonConfig, *, has_large_batches: bool = True) -> str:
    """What takes less memory than `config` does."""
    ways = []
    if config.lora is None:
        ways.append("train adapters with --set lora=true")
    if not config.gradient_checkpointing:
        ways.append("set gradient_checkpointing to true")
    if has_large_batches:
        if (config.micro_batch_size or 1) > 1:
            ways.append("lower micro_batch_size")
        ways.append("lower max_length")
    if getattr(config, "type", "sft") == "ppo":  # which runs in one process
        ways.append("begin from a smaller policy")
    else:
        ways.append("share the model between devices with accelerate launch")
    return ", or ".join(ways)


@contextmanager
def told_when_full(config: CommonConfig | None) -> Iterator[None]:
    """Inside the block, memory that torch cannot get is a ConfigError with the ways out.

    Without a `config` errors pass as they are.
    """
    try:
        yield
    except RuntimeError as exc:
        if config is None or not _is_full(exc):
            raise
        said = ". ".join(" ".join(str(exc).split()).split(". ")[:2])
        raise ConfigError(f"memory ran out in training: {said}; {ways_out(config)}") from exc


def check_disk(facts: ModelFacts, config: CommonConfig) -> None:
    """Raise ConfigError where two checkpoints and the policy do not fit the disk they go to."""
    share = 0.05 if config.lora is not None else 1.0
    checkpoint = int(share * 12 * facts.num_parameters)
    folder = next(
        path for path in (config.run_dir, *config.run_dir.absolute().parents) if path.exists()
    )
    needed, free = 3 * checkpoint + 4 * facts.num_parameters, shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"{config.run_dir}: checkpoints need about {needed / GIB:.1f} GiB and "
            f"{free / GIB:.1f} GiB are free on that disk; make room, or set run_dir elsewhere"
        )


def available_memory() -> int | None:
    """Free bytes of this process's GPU, else of the machine (or container); None if unknown."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    limits = [one for one in (_machine(), _container()) if one is not None]
    return min(limits, default=None)


def _is_full(exc: RuntimeError) -> bool:
    """Whether torch found no memory: on a processor it says so as a plain RuntimeError."""
    import torch

    return isinstance(exc, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(exc)


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _container() -> int | None:
    """What a control group leaves; its cached files make room when they must."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii").split()
        cached = int(stat[stat.index("file") + 1])
        return None if limit == "max" else int(limit) - used + cached
    except (OSError, ValueError, IndexError):
        return None


def _num_shards() -> int:
    """Processes that share out the state, under FSDP or DeepSpeed."""
    sharded = any(
        os.environ.get(name, "").lower() in ("1", "true")
        for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )
    return int(os.environ.get("WORLD_SIZE", "1")) if sharded else 1
