"""Puts a policy into a running engine: verify, swap, replay its probes, or take it back.

Nobody is answered by the new policy before its probes pass. `reload` is for sealed folders of whole
weights, `load_adapter` for sealed adapters; `try_weights` is the middle part of the first, for a
trainer that swaps in fresh weights again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

from cai.engine.base import Engine
from cai.engine.swap import Loaded, uninterrupted
from cai.errors import PolicyError, ReloadError
from cai.files import digest_file
from cai.policy.change import Before, check_moved, read_before
from cai.policy.manifest import (
    NAME,
    PolicyManifest,
    Probe,
    check_tensors,
    read_manifest,
    verify,
)
from cai.policy.probes import ProbeReport, default_tolerance, replay


class SwapEngine(Engine, Protocol):
    """An engine whose weights can be replaced; `EmbeddedEngine` says what each call does."""

    @property
    def loaded(self) -> Loaded:
        """What answers now."""
        ...

    @property
    def dtype(self) -> str:
        """What it computes in."""
        ...

    def paused(self) -> AbstractAsyncContextManager[None]:
        """Keep all others out."""
        ...

    async def swap(
        self,
        folder: Path,
        *,
        name: str | None = None,
        digest: str | None = None,
        hash_files: bool = True,
    ) -> Loaded:
        """Load `folder`; returns what was there before."""
        ...

    async def swap_back(self, previous: Loaded) -> None:
        """Load what was there before."""
        ...

    def condemn(self, reason: str) -> None:
        """Answer nobody until a swap succeeds."""
        ...

    def adapters(self) -> list[str]:
        """Names of the loaded adapters."""
        ...

    def adapter(self, name: str) -> Engine:
        """The engine as a loaded adapter answers."""
        ...

    async def add_adapter(self, folder: Path, *, name: str, digest: str | None = None) -> Engine:
        """Load an adapter; returns the engine as it answers."""
        ...

    async def drop_adapter(self, name: str) -> None:
        """Unload an adapter."""
        ...


def is_swappable(engine: Engine) -> TypeGuard[SwapEngine]:
    """Whether the engine's weights are in this process and can be replaced."""
    return hasattr(engine, "swap_back")


class Reloaded(NamedTuple):
    """A policy that went live. `seconds` are those of the swap and the probes."""

    digest: str | None
    seconds: float
    probes: ProbeReport


async def reload(
    engine: SwapEngine,
    folder: Path,
    *,
    tolerance: float | None = None,
    name: str | None = None,
    hash_files: bool = True,
    seal: str | None = None,
) -> Reloaded:
    """Make the sealed policy in `folder` the one that `engine` answers with.

    `name` is what the engine calls it, by default the manifest's. `hash_files` False takes the
    files' digests as they are written, and reads only the headers of the weights. `seal` is the
    digest that the manifest must have.
    `tolerance` is the largest difference of one token's log-prob, by default `default_tolerance`.

    Raises PolicyError before the engine is touched when the folder is not what was sealed, has no
    probes or does not fit, and ReloadError with the figures when the probes fail: the policy from
    before answers again then, or nobody where it cannot be loaded; the message says which.
    """
    manifest = await asyncio.to_thread(verify if hash_files else check_tensors, folder)
    await _check_seal(folder, seal)
    _check_servable(manifest, folder)
    limit = default_tolerance(engine.dtype) if tolerance is None else tolerance
    before = None
    if manifest.digest != engine.loaded.identity.digest:
        before = await read_before(engine, engine.loaded, manifest.probes, limit)
    return await try_weights(
        engine,
        folder,
        manifest.probes,
        tolerance=limit,
        name=name or manifest.name,
        digest=manifest.digest,
        before=before,
    )


async def load_adapter(
    engine: SwapEngine,
    folder: Path,
    *,
    tolerance: float | None = None,
    name: str | None = None,
    seal: str | None = None,
) -> Reloaded:
    """Load the sealed adapter in `folder` beside the weights, under `name` or the manifest's.

    `seal` is the digest that the manifest must have.

    The engine's other policies are not disturbed, and nobody is answered by it before this returns.
    Raises PolicyError when the folder is not what was sealed, is no adapter or belongs to another
    base, ConflictError when the engine has no place for one, and ReloadError when its probes fail:
    it is unloaded then.
    """
    manifest = await asyncio.to_thread(verify, folder)
    await _check_seal(folder, seal)
    _check_adapter(manifest, folder, engine.loaded)
    limit = default_tolerance(engine.dtype) if tolerance is None else tolerance
    served = name or manifest.name
    began = time.monotonic()
    view = await engine.add_adapter(folder, name=served, digest=manifest.digest)
    try:
        report = await replay(view, manifest.probes)
        check_report(report, limit, folder)
    except BaseException:
        await uninterrupted(engine.drop_adapter(served))
        raise
    return Reloaded(manifest.digest, time.monotonic() - began, report)


def _check_adapter(manifest: PolicyManifest, folder: Path, loaded: Loaded) -> None:
    if manifest.kind != "lora":
        raise PolicyError(f"{folder}: whole weights, no adapter; they take the place of others")
    if not manifest.probes:
        raise PolicyError(f"{folder}: no probes, so nothing would show how it answers")
    below = manifest.below_digest
    if below is None or below != loaded.identity.digest:
        raise PolicyError(
            f"{folder}: an adapter for '{manifest.parent or manifest.base}' ({below}), and the "
            f"engine answers with '{loaded.name}' ({loaded.identity.digest}); load its base first"
        )


async def try_weights(
    engine: SwapEngine,
    folder: Path,
    probes: Sequence[Probe],
    *,
    tolerance: float | None = None,
    name: str | None = None,
    digest: str | None = None,
    hash_files: bool = True,
    before: Before | None = None,
) -> Reloaded:
    """Swap to `folder` and keep it if `probes` pass; it needs no manifest. Raises as `reload`.

    With what the engine answered `before`, it must answer otherwise now where they say so.
    For a way back the weights from before must still be in another folder: use two in turn.
    """
    limit = default_tolerance(engine.dtype) if tolerance is None else tolerance
    began = time.monotonic()
    async with engine.paused():
        previous = engine.loaded
        try:
            await engine.swap(folder, name=name, digest=digest, hash_files=hash_files)
            report = await replay(engine, probes)
            check_report(report, limit, folder)
            if before is not None:
                await check_moved(engine, before, probes, limit, folder)
        except BaseException as exc:
            if engine.loaded is previous and not isinstance(exc, ReloadError):
                raise  # refused before the engine was touched, or dead
            what_now = await uninterrupted(go_back(engine, previous, folder, limit))
            if isinstance(exc, Exception):
                figures = exc.figures if isinstance(exc, ReloadError) else None
                raise ReloadError(f"{_one_line(exc)}; {what_now}", figures=figures) from exc
            raise
    return Reloaded(engine.identity().digest, time.monotonic() - began, report)


def _check_servable(manifest: PolicyManifest, folder: Path) -> None:
    if manifest.kind == "lora":
        raise PolicyError(f"{folder}: an adapter; merge it into its base to have a whole policy")
    if manifest.kind == "reward":
        raise PolicyError(f"{folder}: a reward model gives scores, no text; choose a policy")
    if not manifest.probes:
        raise PolicyError(
            f"{folder}: no probes, so nothing would show that the engine answers as it was "
            "trained; seal it with probes, or use swap"
        )


def check_seal(folder: Path, seal: str) -> None:
    """Raise PolicyError unless `seal` is the digest of the manifest that is in `folder` now."""
    found = digest_file(folder / NAME)
    if found != seal:
        raise PolicyError(
            f"{folder}: holds another policy now: its manifest is {found}, and {seal} was "
            f"registered; add it as it is: cai policy add {folder.name}"
        )


async def _check_seal(folder: Path, seal: str | None) -> None:
    if seal is not None:
        await asyncio.to_thread(check_seal, folder, seal)


def probe_figures(report: ProbeReport, limit: float) -> dict[str, Any]:
    """What is kept with a policy of how it answered."""
    return {
        "probe_max_abs_diff": report.max_abs_diff,
        "probe_mean_abs_diff": report.mean_abs_diff,
        "probe_tokens": report.num_tokens,
        "tolerance": limit,
    }


def check_report(report: ProbeReport, limit: float, folder: Path | None) -> None:
    """Raise ReloadError with the figures when probes are off by more than `limit` nats."""
    if not report.max_abs_diff <= limit:  # a NaN does not pass
        raise ReloadError(
            f"{folder}: the engine does not answer as the trainer did: log-probs are off by up to "
            f"{report.max_abs_diff:.4g} (limit {limit:.4g}), {report.mean_abs_diff:.4g} on "
            f"average over {report.num_tokens} tokens, worst in probe {report.worst}",
            figures=probe_figures(report, limit),
        )


async def go_back(
    engine: SwapEngine,
    previous: Loaded,
    folder: Path | None,
    limit: float,
    *,
    probes: Sequence[Probe] | None = None,
) -> str:
    """Load the previous policy and try its own probes, if it has any; says what answers now.

    It is not loaded once more where it is what is loaded, as after a load that broke off.
    `probes` stand for those of a model without a manifest, `folder` is what was refused. Where
    there is no way back the engine is condemned: it answers nobody until a swap succeeds.
    """
    try:
        if engine.loaded is not previous:
            await engine.swap_back(previous)
        limit = max(limit, default_tolerance(engine.dtype))
        checked = await _replayed(engine, previous, limit, probes)
    except Exception as exc:
        reason = f"no way back to '{previous.name}': {_one_line(exc)}"
        engine.condemn(f"the policy in {folder} was refused, and {reason}")
        return f"{reason}; the engine answers nobody until a swap succeeds"
    return f"'{previous.name}' answers again{checked}"


async def _replayed(
    engine: SwapEngine, previous: Loaded, limit: float, probes: Sequence[Probe] | None
) -> str:
    if probes is None:
        if previous.folder is None:
            return ""
        try:
            probes = (await asyncio.to_thread(read_manifest, previous.folder)).probes
        except PolicyError:
            return ""  # a base model, or a trainer's bare weights
    report = await replay(engine, probes)
    check_report(report, limit, previous.folder)
    return f", its probes off by {report.max_abs_diff:.4g}" if probes else ""


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:500] or type(exc).__name__
