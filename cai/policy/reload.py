"""Puts a policy into a running engine: verify, swap, replay its probes, or take it back.

Nobody is answered by the new policy before its probes pass. `reload` is for sealed folders;
`try_weights` is its middle part, for a trainer that swaps in fresh weights again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from cai.engine.base import Engine
from cai.engine.swap import Loaded, uninterrupted
from cai.errors import PolicyError, ReloadError
from cai.policy.manifest import PolicyManifest, Probe, check_tensors, read_manifest, verify
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
) -> Reloaded:
    """Make the sealed policy in `folder` the one that `engine` answers with.

    `name` is what the engine calls it, by default the manifest's. `hash_files` False takes the
    files' digests as they are written, and reads only the headers of the weights.
    `tolerance` is the largest difference of one token's log-prob, by default `default_tolerance`.

    Raises PolicyError before the engine is touched when the folder is not what was sealed, has no
    probes or does not fit, and ReloadError with the figures when the probes fail: the policy from
    before answers again then, or nobody where it cannot be loaded; the message says which.
    """
    manifest = await asyncio.to_thread(verify if hash_files else check_tensors, folder)
    _check_servable(manifest, folder)
    return await try_weights(
        engine,
        folder,
        manifest.probes,
        tolerance=tolerance,
        name=name or manifest.name,
        digest=manifest.digest,
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
) -> Reloaded:
    """Swap to `folder` and keep it if `probes` pass; it needs no manifest. Raises as `reload`.

    For a way back the weights from before must still be in another folder: use two in turn.
    """
    limit = default_tolerance(engine.dtype) if tolerance is None else tolerance
    began = time.monotonic()
    async with engine.paused():
        previous = await engine.swap(folder, name=name, digest=digest, hash_files=hash_files)
        try:
            report = await replay(engine, probes)
            _check_report(report, limit, folder)
        except BaseException as exc:
            what_now = await uninterrupted(_go_back(engine, previous, folder, limit))
            if isinstance(exc, Exception):
                raise ReloadError(f"{_one_line(exc)}; {what_now}") from exc
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


def _check_report(report: ProbeReport, limit: float, folder: Path) -> None:
    if not report.max_abs_diff <= limit:  # a NaN does not pass
        raise ReloadError(
            f"{folder}: the engine does not answer as the trainer did: log-probs are off by up to "
            f"{report.max_abs_diff:.4g} (limit {limit:.4g}), {report.mean_abs_diff:.4g} on "
            f"average over {report.num_tokens} tokens, worst in probe {report.worst}"
        )


async def _go_back(engine: SwapEngine, previous: Loaded, folder: Path, limit: float) -> str:
    """Load the previous policy and try its own probes, if it has any; says what answers now."""
    try:
        await engine.swap_back(previous)
        checked = await _replayed(engine, previous, max(limit, default_tolerance(engine.dtype)))
    except Exception as exc:
        reason = f"no way back to '{previous.name}': {_one_line(exc)}"
        engine.condemn(f"the policy in {folder} was refused, and {reason}")
        return f"{reason}; the engine answers nobody until a swap succeeds"
    return f"'{previous.name}' answers again{checked}"


async def _replayed(engine: SwapEngine, previous: Loaded, limit: float) -> str:
    try:
        assert previous.folder is not None, "it was just loaded from its folder"
        probes = (await asyncio.to_thread(read_manifest, previous.folder)).probes
    except PolicyError:
        return ""  # a base model, or a trainer's bare weights
    report = await replay(engine, probes)
    _check_report(report, limit, previous.folder)
    return f", its probes off by {report.max_abs_diff:.4g}" if probes else ""


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:500] or type(exc).__name__
