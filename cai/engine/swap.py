"""Replaces the weights of a running vLLM engine in place, whole or not at all.

The ritual: keep new requests out, let those inside finish, pause, load, forget cached prefixes,
resume. What is loaded is published last. Knows vLLM's engine by its methods only.
Start from `Weights.swap`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cai.engine.anatomy import Anatomy, check_fits, read_anatomy
from cai.engine.gate import Gate
from cai.engine.model_folder import check_model_folder, digest_model_folder
from cai.errors import (
    CaiError,
    EngineDeadError,
    EngineError,
    ReloadError,
    UnsupportedError,
)
from cai.types import EngineIdentity

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.005  # while the requests inside finish
_ALIVE_EVERY_S = 0.5  # a dead core leaves vLLM's calls without an answer
_REPLACE_LIMIT_S = 600.0  # one that hangs does too; 60 GB come from a disk of 100 MB/s in that time
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The policy in an engine. `folder` is None where it is not a folder that can be read."""

    folder: Path | None
    identity: EngineIdentity
    anatomy: Anatomy | None = None

    @property
    def name(self) -> str:
        """What the engine calls it."""
        return self.identity.model


class Weights:
    """The weights that one engine answers with; one swap at a time."""

    def __init__(
        self,
        llm: Any,
        gate: Gate,
        loaded: Loaded,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`before` is awaited once nothing runs, before weights are touched."""
        self._llm = llm
        self._before = before
        self._gate = gate
        self._loaded = loaded
        self._one = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self._unfit: str | None = None

    @property
    def loaded(self) -> Loaded:
        """What is loaded now."""
        return self._loaded

    @property
    def is_replacing(self) -> bool:
        """Whether the engine is at work on its weights, and answers nothing else."""
        return self._work is not None

    def check(self) -> None:
        """Raise EngineDeadError when no policy is known to be loaded whole."""
        if self._unfit is not None:
            raise EngineDeadError(self._unfit)

    def condemn(self, reason: str) -> None:
        """Let the engine answer nobody from now on, until another swap succeeds."""
        logger.error("engine condemned: %s", reason)
        self._unfit = reason

    async def swap(
        self, folder: Path, *, name: str | None, digest: str | None, hash_files: bool
    ) -> Loaded:
        """See `EmbeddedEngine.swap`."""
        self._living()
        new = await asyncio.to_thread(self._read, folder, name, digest, hash_files)
        async with self._gate.held(), self._one:
            await self._drain()
            previous = self._loaded
            await self._prepare()
            await uninterrupted(self._exchange(new))
        return previous

    async def swap_back(self, previous: Loaded) -> None:
        """See `EmbeddedEngine.swap_back`."""
        async with self._gate.held(), self._one:
            await self._drain()
            await asyncio.to_thread(_check_return, previous, self._loaded)
            await self._prepare()
            await uninterrupted(self._exchange(previous))

    async def close(self) -> None:
        """Let go of the engine, after an exchange that is under way."""
        self._llm = None
        if self._work is not None:
            await asyncio.wait({self._work})

    def _read(self, folder: Path, name: str | None, digest: str | None, hash_files: bool) -> Loaded:
        """The folder as it would be loaded. Everything that can be refused is refused here."""
        now = self._loaded
        if now.anatomy is None:
            raise UnsupportedError(
                f"the files of '{now.name}' cannot be read, so nothing can be compared with it; "
                "start the engine on a local folder with safetensors"
            )
        check_model_folder(folder)
        anatomy = read_anatomy(folder, like=now.anatomy)
        check_fits(anatomy, now.anatomy, folder=folder)
        if digest is None and hash_files:
            digest = digest_model_folder(folder)
        identity = replace(now.identity, model=name or str(folder), digest=digest)
        return Loaded(folder, identity, anatomy)

    async def _drain(self) -> None:
        """Wait until the engine has finished what it was given.

        vLLM's own waiting would let a request that it preempted, or the rest of one with n > 1,
        go on under the new weights. Readers are not waited for: a slow one would hold up everybody.
        """
        while self._gate.num_entering or self._num_unfinished():
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _prepare(self) -> None:
        if self._before is not None:
            await self._before()

    def _num_unfinished(self) -> int:
        llm = self._living()
        return int(llm.output_processor.get_num_unfinished_requests())

    def _living(self) -> Any:
        if self._llm is None:
            raise EngineDeadError("the engine is closed")
        if self._llm.errored:
            raise EngineDeadError("the engine is dead")
        return self._llm

    async def _exchange(self, new: Loaded) -> None:
        """Load `new`, or the one before again. What is loaded is published last."""
        assert new.folder is not None, "what is to be loaded was read from a folder"
        try:
            await self._replace(new.folder)
        except EngineDeadError:
            raise
        except Exception as exc:
            raise await self._recovered(new, exc) from exc
        self._loaded, self._unfit = new, None
        logger.info("policy loaded: %s %s", new.name, new.identity.digest)

    async def _recovered(self, new: Loaded, exc: Exception) -> ReloadError:
        """Load the one before after a load that broke off; the error says how that went."""
        reason = f"{new.folder}: the weights could not be loaded ({_one_line(exc)})"
        before = self._loaded
        try:
            await asyncio.to_thread(_check_return, before, new)
            assert before.folder is not None, "checked just now"
            await self._replace(before.folder)
        except Exception as again:
            reason = f"{reason}, and no way back: {_one_line(again)}; the engine answers no more"
            self.condemn(reason)
            return ReloadError(reason)
        return ReloadError(f"{reason}; '{before.name}' answers again")

    async def _replace(self, folder: Path) -> None:
        llm = self._living()
        self._work = work = asyncio.ensure_future(_ritual(llm, folder))
        until = time.monotonic() + _REPLACE_LIMIT_S
        while not work.done():
            await asyncio.wait({work}, timeout=_ALIVE_EVERY_S)
            if llm.errored or time.monotonic() > until:
                work.cancel()  # again and again: each of its calls may be one without an answer
        self._work = None
        if llm.errored:
            raise EngineDeadError("the engine died while its weights were replaced")
        if work.cancelled():
            reason = f"the engine did not replace its weights within {_REPLACE_LIMIT_S:g} s"
            self.condemn(reason)
            raise EngineDeadError(reason)
        work.result()


async def uninterrupted(work: Coroutine[Any, Any, _ResultT]) -> _ResultT:
    """The result of `work`, which is not cut off: a cancel is kept until it has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("after a cancel: %s", task.exception())
        raise cancelled
    return task.result()


async def _ritual(llm: Any, folder: Path) -> None:
    """Pause, load, forget, resume; nothing else may be running."""
    try:
        await llm.pause_generation(mode="wait", clear_cache=False)
        await llm.collective_rpc("cai_swap_weights", kwargs={"folder": str(folder)})
        if not await llm.reset_prefix_cache():
            raise EngineError("vLLM did not drop its cached prefixes")
    finally:
        await llm.resume_generation()


def _check_return(previous: Loaded, now: Loaded) -> None:
    """Raise ReloadError unless the folder of `previous` still holds what was loaded from it."""
    folder, digest = previous.folder, previous.identity.digest
    if folder is None:
        raise ReloadError(f"'{previous.name}' has no folder to be loaded from")
    is_same_place = now.folder is not None and folder.resolve() == now.folder.resolve()
    if digest is None and is_same_place:
        raise ReloadError(f"{folder}: holds the new weights; write each policy to its own folder")
    try:
        tensors = read_anatomy(folder, like=previous.anatomy).tensors
        is_same = previous.anatomy is not None and tensors == previous.anatomy.tensors
        is_same = is_same and digest in (None, digest_model_folder(folder))
    except (CaiError, OSError) as exc:
        raise ReloadError(f"{folder}: cannot be loaded again: {_one_line(exc)}") from exc
    if not is_same:
        raise ReloadError(f"{folder}: changed since it was loaded as '{previous.name}'")


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:500] or type(exc).__name__
