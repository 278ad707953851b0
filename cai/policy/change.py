"""Did loading a policy change what the engine answers, where its trainer's log-probs say it must?

A load that did nothing passes the probes of a policy that is near to the one before, as those after
a small step of training are. Start from `read_before`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cai.engine.base import Engine
from cai.engine.swap import Loaded
from cai.errors import CaiError, PolicyError, ReloadError
from cai.policy.manifest import Probe, read_manifest
from cai.policy.probes import replay
from cai.types import TokenPrompt

_TIMES_OFF: Final = 4.0
_SHARE_OF_LIMIT: Final = 0.25
_LEAST_MOVED: Final = 0.05


class Before(NamedTuple):
    """What an engine answered to a policy's probes before the policy was loaded.

    Where the trainer's log-probs differ from these by less than `blur`, nothing can be said.
    """

    logprobs: tuple[float, ...]
    blur: float


async def read_before(
    engine: Engine, loaded: Loaded, probes: Sequence[Probe], limit: float
) -> Before | None:
    """Ask the engine, which answers as `loaded`; None where nothing shows how exact it is.

    That is how far it is off from the log-probs of the loaded policy's own trainer, by a multiple,
    and at least a part of `limit`.
    """
    if loaded.folder is None:
        return None
    try:
        own = (await asyncio.to_thread(read_manifest, loaded.folder)).probes
    except PolicyError:
        return None  # a base model, or a trainer's bare weights
    try:
        report = await replay(engine, own)
        found = await _logprobs(engine, probes)
    except CaiError:
        return None  # condemned, say; what is to be loaded may be the way out
    if not report.num_tokens:
        return None
    return Before(found, max(_TIMES_OFF * report.max_abs_diff, _SHARE_OF_LIMIT * limit))


async def check_moved(
    engine: Engine, before: Before, probes: Sequence[Probe], limit: float, folder: Path
) -> None:
    """Raise ReloadError where an engine that passed the probes answers as it did before.

    It must differ by a twentieth of the trainer's difference in some token, so that rounding,
    which swallows much of a small step, is not taken for a load that did nothing.
    """
    wanted = [one for probe in probes for one in probe.logprobs]
    apart = max(abs(a - b) for a, b in zip(wanted, before.logprobs, strict=True))
    if not before.blur < apart <= 2 * limit:  # above it the probes themselves have shown it
        return
    found = await _logprobs(engine, probes)
    moved = max(abs(a - b) for a, b in zip(found, before.logprobs, strict=True))
    if moved < _LEAST_MOVED * apart:
        raise ReloadError(
            f"{folder}: the engine answers as it did before: log-probs moved by {moved:.4g} at "
            f"most, where the trainer's are {apart:.4g} away",
            figures={"probe_max_moved": moved, "probe_max_apart": apart},
        )


async def _logprobs(engine: Engine, probes: Sequence[Probe]) -> tuple[float, ...]:
    """Log-probs of all continuation tokens, in order."""

    async def ask(probe: Probe) -> list[float]:
        found = await engine.prompt_logprobs(TokenPrompt(probe.prompt_ids + probe.continuation_ids))
        return [token.logprob for token in found[-len(probe.continuation_ids) :]]

    answers = await asyncio.gather(*map(ask, probes))
    return tuple(one for answer in answers for one in answer)
