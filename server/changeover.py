"""Moves an engine from one policy to another while clients wait, or back again.

Knows the engine and who is inside; knows nothing of the registry: what is to be written down is
written by `publish`, while everybody still waits. Start from `Changeover.to_weights`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cai.engine.base import Engine
from cai.engine.swap import Loaded, uninterrupted
from cai.errors import CaiError, ReloadError
from cai.policy.manifest import Probe, verify
from cai.policy.probes import default_tolerance, own_probes, replay
from cai.policy.reload import (
    Reloaded,
    SwapEngine,
    check_report,
    go_back,
    load_adapter,
    reload,
)
from server.limits import Admission

logger = logging.getLogger(__name__)

Figures = dict[str, Any]
Publish = Callable[[Figures], Awaitable[None]]


class Changeover:
    """One engine's weights and adapters. Callers take turns; nothing here locks.

    `base` is what the engine was opened on, with `base_probes` that the engine itself computed.
    """

    def __init__(
        self,
        engine: SwapEngine,
        admission: Admission,
        *,
        drain_s: float,
        base_probes: tuple[Probe, ...],
    ) -> None:
        self.engine = engine
        self.base = engine.loaded
        self.base_probes = base_probes
        self._admission = admission
        self._drain_s = drain_s
        self._adapters: dict[str, Path] = {}

    @classmethod
    async def begin(cls, engine: SwapEngine, admission: Admission, *, drain_s: float) -> Changeover:
        """For an engine that was just opened, before anybody is answered by it."""
        probes = await own_probes(engine)
        return cls(engine, admission, drain_s=drain_s, base_probes=probes)

    @property
    def is_on_base(self) -> bool:
        """Whether the engine answers with what it was opened on."""
        return self.engine.loaded.identity == self.base.identity

    def adapters(self) -> list[str]:
        """Those that answer beside the weights."""
        return list(self._adapters)

    def view(self, name: str) -> Engine:
        """The engine as an adapter answers."""
        return self.engine.adapter(name)

    async def to_weights(self, folder: Path, name: str, publish: Publish) -> list[str]:
        """Answer with the sealed weights in `folder`; returns the adapters that gave way.

        Raises ConflictError when requests at work outlast the bound, PolicyError or ReloadError
        when the policy is not what its trainer made, and what `publish` raises: in each case what
        answered before answers again, its adapters too.
        """
        await asyncio.to_thread(verify, folder)  # before anybody has to wait
        async with self._alone() as drained_s, self._or_as_before(folder):
            reloaded = await reload(self.engine, folder, name=name, hash_files=False)
            await publish({"seconds_drain": drained_s, **self._figures(reloaded)})
            gave_way, self._adapters = list(self._adapters), {}
        return gave_way

    async def try_weights(self, folder: Path, name: str) -> Figures:
        """As `to_weights`, and back again at once: what the probes say of a policy."""
        await asyncio.to_thread(verify, folder)
        async with self._alone() as drained_s, self._or_as_before(folder, always=True):
            reloaded = await reload(self.engine, folder, name=name, hash_files=False)
            return {"seconds_drain": drained_s, **self._figures(reloaded)}

    async def to_base(self, publish: Publish) -> list[str]:
        """Answer with what the engine was opened on; otherwise as `to_weights`."""
        async with self._alone() as drained_s, self._or_as_before(self.base.folder):
            await self.engine.swap_back(self.base)
            report = await replay(self.engine, self.base_probes)
            if not report.max_abs_diff <= default_tolerance(self.engine.dtype):
                raise ReloadError(
                    f"'{self.base.name}' is off by {report.max_abs_diff:.4g} from what it was when "
                    "the engine was opened on it"
                )
            figures = {"probe_max_abs_diff": report.max_abs_diff}
            await publish({"seconds_drain": drained_s, **figures})
            gave_way, self._adapters = list(self._adapters), {}
        return gave_way

    async def load_adapter(self, folder: Path, name: str) -> Figures:
        """Let an adapter answer under its name; the probes' figures. Nobody has to wait.

        Of one that is loaded already the probes are asked again. Raises PolicyError or ReloadError
        when it is not what its trainer made: it answers nobody then.
        """
        if name in self._adapters:
            return await self._checked(self.view(name), folder)
        reloaded = await load_adapter(self.engine, folder, name=name)
        self._adapters[name] = folder
        return self._figures(reloaded)

    async def check(self, folder: Path) -> Figures:
        """The probes' figures of the weights that answer now, sealed in `folder`."""
        return await self._checked(self.engine, folder)

    async def drop_adapter(self, name: str) -> None:
        """Let an adapter answer nobody from now on."""
        self._adapters.pop(name, None)
        await self.engine.drop_adapter(name)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[float]:
        """Nobody is inside, and who comes waits. Yields how many seconds that took."""
        began = time.monotonic()
        async with self._admission.emptied(self._drain_s), self.engine.paused():
            yield round(time.monotonic() - began, 4)

    @asynccontextmanager
    async def _or_as_before(
        self, folder: Path | None, *, always: bool = False
    ) -> AsyncIterator[None]:
        """After a failure in the block, or `always`, the policy from before, and its adapters."""
        before = self.engine.loaded
        try:
            yield
        except BaseException:
            await uninterrupted(self._restore(before, folder))
            raise
        if always:
            await uninterrupted(self._restore(before, folder))

    async def _restore(self, before: Loaded, folder: Path | None) -> None:
        if self.engine.loaded is not before:
            limit = default_tolerance(self.engine.dtype)
            probes = self.base_probes if before.identity == self.base.identity else None
            told = await go_back(self.engine, before, folder, limit, probes=probes)
            logger.info("after a policy that was not kept: %s", told)
        loaded = set(self.engine.adapters())
        for name, where in list(self._adapters.items()):
            if name not in loaded:
                await self._load_again(name, where)

    async def _load_again(self, name: str, folder: Path) -> None:
        try:
            await load_adapter(self.engine, folder, name=name)
        except CaiError as exc:
            del self._adapters[name]
            logger.error("adapter %s answers no more: %s", name, exc.message)

    async def _checked(self, engine: Engine, folder: Path) -> Figures:
        manifest = await asyncio.to_thread(verify, folder)
        report = await replay(engine, manifest.probes)
        check_report(report, default_tolerance(self.engine.dtype), folder)
        return {"probe_max_abs_diff": report.max_abs_diff}

    def _figures(self, reloaded: Reloaded) -> Figures:
        return {
            "seconds": round(reloaded.seconds, 4),
            "probe_max_abs_diff": reloaded.probes.max_abs_diff,
            "probe_mean_abs_diff": reloaded.probes.mean_abs_diff,
            "probe_tokens": reloaded.probes.num_tokens,
            "tolerance": default_tolerance(self.engine.dtype),
            "dtype": self.engine.dtype,
        }
