"""What `cai policy verify` does: the folder against its seal, then the probes in an engine.

The engine is one of its own, so it needs the memory for a second model beside a running server.
Start from `check`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

from cai.engine.open import open_engine
from cai.errors import (
    CaiError,
    ConfigError,
    MissingDependencyError,
    NotFoundError,
    PolicyError,
    ReloadError,
)
from cai.policy.manifest import PolicyManifest
from cai.policy.manifest import verify as verify_files
from cai.policy.probes import default_tolerance, replay
from cai.policy.records import PolicyRecord
from cai.policy.registry import PolicyRegistry
from cai.policy.reload import check_report, check_seal
from cai.registry import load_object

Figures = dict[str, Any]


class Verdict(NamedTuple):
    """What was found. `failure` is the error of a policy that is not what its trainer made."""

    id: str
    state: str
    told: str
    figures: Figures
    failure: CaiError | None = None


def check(
    registry: PolicyRegistry, record: PolicyRecord, *, actor: str, files_only: bool
) -> Verdict:
    """Try a policy and record the outcome; without an engine only a failure is recorded."""
    folder = registry.path(record)
    if not folder.is_dir():
        raise NotFoundError(
            f"the folder of '{record.id}' is gone: {folder}; bring it back, or add a copy of it"
        )
    try:
        manifest = verify_files(folder)
        check_seal(folder, record.manifest_digest)
        figures = {} if files_only else _replayed(folder, manifest)
    except (PolicyError, ConfigError) as exc:
        return _failed(registry, record, exc, actor)
    except ReloadError as exc:
        return _failed(registry, record, PolicyError(exc.message), actor, exc.figures)
    if not figures:
        told = f"every file is as it was sealed{_why_no_more(manifest, files_only)}"
        return Verdict(record.id, record.state, told, {})
    state = registry.verified(record.id, figures, actor).state
    told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return Verdict(record.id, state, told, figures)


def _replayed(folder: Path, manifest: PolicyManifest) -> Figures:
    """Figures of the probes; none where there is nothing to replay here."""
    if manifest.kind == "reward" and manifest.reward_probes:
        return _scored(folder, len(manifest.reward_probes))
    if manifest.kind == "full" and manifest.probes:
        return asyncio.run(_answered(folder, manifest))
    return {}


async def _answered(folder: Path, manifest: PolicyManifest) -> Figures:
    engine = await open_engine(f"vllm:{folder}")
    try:
        report = await replay(engine, manifest.probes)
        limit = default_tolerance(getattr(engine, "dtype", "float32"))
    finally:
        await engine.aclose()
    check_report(report, limit, folder)
    return {**report._asdict(), "limit": limit}


def _scored(folder: Path, num_probes: int) -> Figures:
    """A reward model replays its own probes when it is loaded."""
    try:
        load = load_object("cai.train.scorer:RewardScorer").load
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("a reward model", exc.name or "torch", "train") from exc
    load(folder).close()
    return {"num_probes": num_probes}


def _failed(
    registry: PolicyRegistry,
    record: PolicyRecord,
    exc: CaiError,
    actor: str,
    figures: Figures | None = None,
) -> Verdict:
    found = figures or {}
    if record.state in ("candidate", "verified", "retired"):
        record = registry.reject(record.id, exc.message, found, actor)
    return Verdict(record.id, record.state, "not what its trainer made", found, exc)


def _why_no_more(manifest: PolicyManifest, files_only: bool) -> str:
    if files_only:
        return "; no engine was asked"
    if manifest.kind == "lora":
        return "; an adapter's probes are replayed beside its base, when a server loads it"
    return "; it has no probes, so nothing shows how it answers"
