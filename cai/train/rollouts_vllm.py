"""PPO's rollouts on vLLM: the trainer's weights go through a folder on tmpfs, verified each time.

After each load the engine computes probes whose log-probs the trainer knows; where they differ the
run stops with the figures.
Start from `VllmRollouts.start`. The torch sampler beside it is `cai.train.rollouts.TorchRollouts`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cai.engine.embedded import EmbeddedEngine
from cai.policy.manifest import Probe
from cai.policy.reload import try_weights
from cai.train.adapters import beneath, merged_state
from cai.train.export import state_in
from cai.train.rollouts import Episode, PromptIds, Push, cut_episode
from cai.types import Sampling, TokenPrompt

logger = logging.getLogger(__name__)

_MEMORY = Path("/dev/shm")
_PREFIX = "cai-ppo-"
_ROOM = 2.2  # the old weights and the new ones lie beside each other for a moment

Probing = Callable[[], tuple[Probe, ...]]


class VllmRollouts:
    """An embedded engine that follows the trainer. Made by `start`; `close` removes its folder."""

    def __init__(
        self,
        runner: asyncio.Runner,
        engine: EmbeddedEngine,
        *,
        base: Path,
        folder: Path,
        end_ids: Collection[int],
        probing: Probing,
        tolerance: float | None,
    ) -> None:
        self._runner = runner
        self._engine: EmbeddedEngine | None = engine
        self._base = base
        self._folder = folder
        self._end_ids = end_ids
        self._probing = probing
        self._tolerance = tolerance
        self._num_pushed = 0

    @classmethod
    def start(
        cls,
        runner: asyncio.Runner,
        base: Path,
        *,
        options: Mapping[str, Any],
        end_ids: Collection[int],
        probing: Probing,
        tolerance: float | None,
        spare: Path,
    ) -> VllmRollouts:
        """An engine on the policy folder `base`; weights go by tmpfs, or `spare` where it is full.

        `probing` gives probes with the log-probs that the trainer's present weights have;
        `tolerance` is how far the engine's may be off, in nats. An answer ends at one of `end_ids`.
        """
        folder = weights_folder(base, spare)
        try:
            engine = runner.run(EmbeddedEngine.start(str(base), options))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(
            runner,
            engine,
            base=base,
            folder=folder,
            end_ids=end_ids,
            probing=probing,
            tolerance=tolerance,
        )

    def push(self, model: Any) -> Push:
        started = time.perf_counter()
        engine = self._open()
        self._num_pushed += 1
        target = self._folder / f"{self._num_pushed:06d}"
        write_weights(model, self._base, target, low_precision=engine.dtype != "float32")
        done = self._runner.run(
            try_weights(
                engine,
                target,
                self._probing(),
                tolerance=self._tolerance,
                name=f"rollouts-{self._num_pushed}",
                hash_files=False,
            )
        )
        for other in self._folder.iterdir():  # those before were the way back
            if other != target:
                shutil.rmtree(other)
        seconds = time.perf_counter() - started
        return Push(seconds, done.probes.max_abs_diff, done.probes.mean_abs_diff)

    def sample(
        self, prompts: Sequence[PromptIds], *, max_tokens: int, greedy: bool = False
    ) -> list[Episode]:
        sampling = Sampling(
            max_tokens=max_tokens, temperature=0.0 if greedy else 1.0, top_p=1.0, logprobs=0
        )
        return self._runner.run(_sample(self._open(), prompts, sampling, self._end_ids))

    def close(self) -> None:
        engine, self._engine = self._engine, None
        try:
            if engine is not None:
                self._runner.run(engine.aclose())
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self) -> EmbeddedEngine:
        assert self._engine is not None, "the rollouts are closed"
        return self._engine


def write_weights(model: Any, base: Path, target: Path, *, low_precision: bool) -> None:
    """`model`'s weights, adapters merged, as a folder that an engine loads; else as `base`."""
    dtype = torch.bfloat16 if low_precision else torch.float32
    whole = beneath(model)
    whole.save_pretrained(target, state_dict=state_in(merged_state(model), dtype))
    for path in base.iterdir():
        is_weights = ".safetensors" in path.name or path.name == "manifest.json"
        if path.is_file() and not is_weights:
            shutil.copyfile(path, target / path.name)


def weights_folder(base: Path, spare: Path) -> Path:
    """A new folder of this process's own, in memory where the weights fit there twice.

    Folders that killed runs of the same user left there are removed first.
    """
    sweep(_MEMORY)
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM * 2 * size
    parent = _MEMORY if has_room else spare
    if not has_room:
        logger.warning("%s has no room for the weights twice; they go through %s", _MEMORY, spare)
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


def sweep(parent: Path) -> list[Path]:
    """Remove weight folders of this user whose process is gone; returns them."""
    removed = []
    for path in parent.glob(f"{_PREFIX}*-*") if parent.is_dir() else ():
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        is_ours = path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()
        if is_ours and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


async def _sample(
    engine: EmbeddedEngine,
    prompts: Sequence[PromptIds],
    sampling: Sampling,
    end_ids: Collection[int],
) -> list[Episode]:
    """All at once: the engine batches what is in flight, and its queue has no limit."""

    async def one(prompt: PromptIds) -> Episode:
        made = (await engine.generate(TokenPrompt(prompt), sampling)).completions[0]
        assert made.logprobs is not None, "log-probs were asked for"
        return cut_episode(prompt, made.token_ids, [t.logprob for t in made.logprobs], end_ids)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(prompt)) for prompt in prompts]
    return [task.result() for task in tasks]
