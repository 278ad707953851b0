"""Moves an engine from one policy to another while clients wait, or back again.

Knows the engine and who is inside; knows nothing of the registry: what is to be written down is
written by `publish`, while everybody still waits. Start from `Changeover.to_weights`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cai.engine.base import Engine
from cai.engine.swap import Loaded, uninterrupted
from cai.errors import CaiError, ConflictError, PolicyError, ReloadError
from cai.policy.manifest import PolicyManifest, Probe, verify
from cai.policy.probes import default_tolerance, own_probes, replay
from cai.policy.reload import (
    Reloaded,
    SwapEngine,
    check_report,
    check_seal,
    go_back,
    load_adapter,
    probe_figures,
    reload,
)
from server.limits import Admission

logger = logging.getLogger(__name__)

Figures = dict[str, Any]
Publish = Callable[[Figures], Awaitable[None]]


class Sealed(NamedTuple):
    """A registered policy's folder, with the digest that its manifest had then."""

    name: str
    folder: Path
    seal: str


@dataclass(slots=True)
class _Turn:
    """One change of what answers; once it is kept there is no way back."""

    is_kept: bool = False


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
        self._adapters: dict[str, Sealed] = {}

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

    async def to_weights(self, new: Sealed, publish: Publish) -> None:
        """Answer with sealed weights; adapters of those from before answer no more.

        Raises ConflictError when requests at work outlast the bound, PolicyError or ReloadError
        when the policy is not what its trainer made, and what `publish` raises: in each case what
        answered before answers again, its adapters too. So it does after a cancel, but for one
        that comes once `publish` has begun: that one is raised when everything has been done.
        """
        await asyncio.to_thread(verified, new)  # before anybody has to wait
        async with self._alone() as drained_s, self._or_as_before(new.folder) as turn:
            figures = await self._reload(new)
            await self._keep(turn, publish, {"seconds_drain": drained_s, **figures}, {})

    async def try_weights(self, new: Sealed) -> Figures:
        """As `to_weights`, and back again at once: what the probes say of a policy."""
        await asyncio.to_thread(verified, new)
        async with self._alone() as drained_s, self._or_as_before(new.folder):
            return {"seconds_drain": drained_s, **await self._reload(new)}

    async def to_base(self, publish: Publish) -> None:
        """Answer with what the engine was opened on; otherwise as `to_weights`."""
        async with self._alone() as drained_s, self._or_as_before(self.base.folder) as turn:
            figures = await self._back_to_base()
            await self._keep(turn, publish, {"seconds_drain": drained_s, **figures}, {})

    async def to_adapter(
        self, new: Sealed, publish: Publish, *, gives_way: str | None = None
    ) -> None:
        """Answer with an adapter of what is loaded; the adapter `gives_way` answers no more.

        Nobody has to wait, but where the engine has no place for both. Otherwise as `to_weights`.
        """
        try:
            figures = await self.load_adapter(new)
        except ConflictError:
            if gives_way is None or gives_way not in self._adapters:
                raise
            async with self._alone() as drained_s, self._or_as_before(new.folder) as turn:
                await self._drop({*self._idle(), gives_way})
                figures = {"seconds_drain": drained_s, **await self._load(new)}
                await self._keep(turn, publish, figures, self._without(gives_way, new))
            return
        await self._keep(_Turn(), publish, figures, self._without(gives_way, new))

    async def to_adapter_of(self, below: Sealed | None, new: Sealed, publish: Publish) -> None:
        """Answer with an adapter of other weights; None means those the engine was opened on.

        As `to_weights`; ConflictError too where those weights are not what they were, which is no
        fault of the adapter's.
        """
        await asyncio.to_thread(verified, new)
        async with self._alone() as drained_s, self._or_as_before(new.folder) as turn:
            try:
                await (self._back_to_base() if below is None else self._reload(below))
            except (PolicyError, ReloadError) as exc:
                raise ConflictError(f"the weights below '{new.name}': {exc.message}") from exc
            figures = {"seconds_drain": drained_s, **await self._load(new)}
            await self._keep(turn, publish, figures, {new.name: new})

    async def load_adapter(self, new: Sealed) -> Figures:
        """Let an adapter answer under its name; the probes' figures.

        Nobody has to wait, but where its place is held by an adapter that answers no more. Of one
        that is loaded already the probes are asked again. Raises PolicyError or ReloadError when
        it is not what its trainer made: it answers nobody then.
        """
        if new.name in self._adapters:
            return await self._checked(self.view(new.name), new)
        try:
            figures = await self._load(new)
        except ConflictError:
            if not self._idle():
                raise
            async with self._alone():  # requests that they still answer would fail
                await self._drop(self._idle())
                figures = await self._load(new)
        self._adapters[new.name] = new
        return figures

    async def to_loaded(self, new: Sealed, publish: Publish) -> None:
        """Answer with the sealed weights that are loaded, after their probes: those of a base."""
        figures = await self._checked(self.engine, new)
        await self._keep(_Turn(), publish, figures, self._adapters)

    def hide(self, name: str) -> None:
        """Let an adapter answer nobody from now on; requests inside finish, its place stays."""
        self._adapters.pop(name, None)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[float]:
        """Nobody is inside, and who comes waits. Yields how many seconds that took."""
        began = time.monotonic()
        async with self._admission.emptied(self._drain_s), self.engine.paused():
            yield round(time.monotonic() - began, 4)

    @asynccontextmanager
    async def _or_as_before(self, folder: Path | None) -> AsyncIterator[_Turn]:
        """After a block that kept nothing, the policy from before, and its adapters."""
        before, turn = self.engine.loaded, _Turn()
        try:
            yield turn
        finally:
            if not turn.is_kept:
                await uninterrupted(self._restore(before, folder))

    async def _keep(
        self, turn: _Turn, publish: Publish, figures: Figures, adapters: Mapping[str, Sealed]
    ) -> None:
        """Publish, as a whole or not at all: a cancel would leave engine and registry apart."""

        async def work() -> None:
            await publish(figures)
            self._adapters, turn.is_kept = dict(adapters), True

        await uninterrupted(work())

    async def _restore(self, before: Loaded, folder: Path | None) -> None:
        """Probes are asked again even where nothing seems to have changed: a load may break off."""
        limit = default_tolerance(self.engine.dtype)
        probes = self.base_probes if before.identity == self.base.identity else None
        told = await go_back(self.engine, before, folder, limit, probes=probes)
        logger.info("after a policy that was not kept: %s", told)
        await self._drop(self._idle())
        loaded = set(self.engine.adapters())
        for one in list(self._adapters.values()):
            if one.name not in loaded:
                await self._load_again(one)

    async def _load_again(self, one: Sealed) -> None:
        try:
            await self._load(one)
        except CaiError as exc:
            del self._adapters[one.name]
            logger.error("adapter %s answers no more: %s", one.name, exc.message)

    async def _reload(self, new: Sealed) -> Figures:
        found = await reload(
            self.engine, new.folder, name=new.name, seal=new.seal, hash_files=False
        )
        return self._figures(found)

    async def _load(self, new: Sealed) -> Figures:
        return self._figures(
            await load_adapter(self.engine, new.folder, name=new.name, seal=new.seal)
        )

    async def _back_to_base(self) -> Figures:
        await self.engine.swap_back(self.base)
        report = await replay(self.engine, self.base_probes)
        limit = default_tolerance(self.engine.dtype)
        if not report.max_abs_diff <= limit:
            raise ReloadError(
                f"'{self.base.name}' is off by {report.max_abs_diff:.4g} from what it was when "
                "the engine was opened on it",
                figures=probe_figures(report, limit),
            )
        return probe_figures(report, limit)

    async def _checked(self, engine: Engine, one: Sealed) -> Figures:
        manifest = await asyncio.to_thread(verified, one)
        report = await replay(engine, manifest.probes)
        limit = default_tolerance(self.engine.dtype)
        check_report(report, limit, one.folder)
        return probe_figures(report, limit)

    def _idle(self) -> set[str]:
        """Adapters that are loaded and answer nobody new."""
        return set(self.engine.adapters()) - set(self._adapters)

    def _without(self, name: str | None, new: Sealed) -> dict[str, Sealed]:
        rest = {one.name: one for one in self._adapters.values() if one.name != name}
        return {**rest, new.name: new}

    async def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            await self.engine.drop_adapter(name)

    def _figures(self, reloaded: Reloaded) -> Figures:
        dtype = self.engine.dtype
        return {
            "seconds": round(reloaded.seconds, 4),
            **probe_figures(reloaded.probes, default_tolerance(dtype)),
            "dtype": dtype,
        }


def verified(one: Sealed) -> PolicyManifest:
    """The manifest of a policy that is what was registered, every byte of it."""
    manifest = verify(one.folder)
    check_seal(one.folder, one.seal)
    return manifest
