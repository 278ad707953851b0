"""The manifest of a run directory: what was run, on what, by whom, and in which sessions.

The only file of a run that holds times. Start from `begin_session`; `end_session` adds the counts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cai import __version__
from cai.constitution.schema import Constitution
from cai.dataset.prompts import PromptFile
from cai.dataset.records import FORMAT, Counts
from cai.dataset.resume import Stock, check_same
from cai.files import digest_json
from cai.types import EngineIdentity

_SAME = ("engine", "model", "digest", "template_digest")


def begin_session(
    folder: Path,
    settled: Mapping[str, Any],
    *,
    constitution: Constitution,
    engine: EngineIdentity,
    judge: EngineIdentity | None = None,
    prompts: PromptFile,
    stock: Stock,
) -> dict[str, Any]:
    """The manifest to write before any row. `settled` is every setting that decides the rows.

    Raises ConfigError when an earlier session had another engine behind the same address.
    """
    earlier = stock.manifest or {"engine": engine.as_dict(), "sessions": []}
    _check_engine(folder, "engine", earlier["engine"], engine.as_dict())
    if judge is not None:
        _check_engine(folder, "judge", earlier.get("judge", judge.as_dict()), judge.as_dict())
    session = {
        "started_at": _now(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "from": stock.counts.accounted,
    }
    manifest = {
        "format": FORMAT,
        "cai_version": __version__,
        "config_digest": digest_json(settled),
        "config": dict(settled),
        "constitution": {"ref": constitution.ref, "digest": constitution.digest},
        "engine": engine.as_dict(),
        "prompts": {
            "path": str(prompts.path),
            "digest": prompts.digest,
            "inputs": prompts.num_inputs,
        },
        "sessions": [*earlier["sessions"], session],
    }
    return manifest if judge is None else {**manifest, "judge": judge.as_dict()}


def begin_derived(kind: str, settled: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of rows made of other data: `kind` is `import`, `feedback` or `merge`."""
    session = {"started_at": _now(), "pid": os.getpid(), "host": socket.gethostname(), "from": 0}
    return {
        "format": FORMAT,
        "kind": kind,
        "cai_version": __version__,
        "config_digest": digest_json(settled),
        "config": dict(settled),
        "sessions": [session],
    }


def end_session(
    manifest: Mapping[str, Any],
    counts: Counts,
    measured: Mapping[str, Any],
    *,
    num_inputs: int | None = None,
) -> dict[str, Any]:
    """The manifest of a run that is complete; `measured` is what the judge showed over it.

    `num_inputs` is needed where the manifest names no prompts.
    """
    *before, last = manifest["sessions"]
    inputs = manifest["prompts"]["inputs"] if num_inputs is None else num_inputs
    return {
        **manifest,
        **measured,
        "counts": {"inputs": inputs, **counts.as_dict()},
        "sessions": [*before, {**last, "ended_at": _now()}],
    }


def _check_engine(
    folder: Path, role: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    check_same(
        folder,
        {f"{role}'s {name}": before.get(name) for name in _SAME},
        {f"{role}'s {name}": now.get(name) for name in _SAME},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
