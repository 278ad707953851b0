"""Reads a run directory, live or dead, without touching it: what is kept, rejected, owed.

Counts whole lines only, so a run can be read while it is written. Start from `read_status`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cai.dataset.lock import holder
from cai.dataset.records import DONE, FORMAT, REJECTED, ROWS, TRANSCRIPTS, Counts
from cai.dataset.resume import count_rows, read_manifest
from cai.files import read_jsonl

_TOLD = ("kind", "constitution", "engine", "judge", "config_digest")

State = Literal["running", "stopped", "done"]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as its files tell it. `rows_per_s` is that of its latest session."""

    folder: Path
    state: State
    inputs: int
    counts: Counts
    pid: int | None
    rows_per_s: float | None
    manifest: dict[str, Any]

    @property
    def owed(self) -> int:
        """Inputs that are neither kept nor rejected."""
        return max(0, self.inputs - self.counts.accounted)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; what is not known is left out."""
        shown: dict[str, Any] = {
            "format": FORMAT,
            "run": str(self.folder),
            "state": self.state,
            "inputs": self.inputs,
            "owed": self.owed,
            **self.counts.as_dict(),
            **{name: self.manifest[name] for name in _TOLD if name in self.manifest},
        }
        if self.pid is not None:
            shown["pid"] = self.pid
        if self.rows_per_s is not None:
            shown["rows_per_s"] = round(self.rows_per_s, 2)
        return shown


def read_status(folder: Path) -> RunStatus:
    """Where a run stands now. Raises NotFoundError where there is no run."""
    manifest = read_manifest(folder)
    pid = holder(folder)
    is_done = (folder / DONE).exists()
    counts = _count(folder, manifest)
    return RunStatus(
        folder=folder,
        state="running" if pid is not None else "done" if is_done else "stopped",
        inputs=manifest["prompts"]["inputs"] if "prompts" in manifest else counts.accounted,
        counts=counts,
        pid=pid,
        rows_per_s=_rate(folder, manifest, counts, is_live=pid is not None),
        manifest=manifest,
    )


def _count(folder: Path, manifest: dict[str, Any]) -> Counts:
    if "kind" not in manifest:
        return count_rows(folder, judged=bool(manifest["config"].get("judges"))).counts
    counts = Counts(pairs=sum(1 for _ in read_jsonl(folder / ROWS)))
    counts.rejected.update(row["reason"] for row in read_jsonl(folder / REJECTED))
    counts.kept = manifest.get("counts", {}).get("kept", counts.pairs)
    return counts


def _rate(folder: Path, manifest: dict[str, Any], counts: Counts, *, is_live: bool) -> float | None:
    session = manifest["sessions"][-1]
    started = datetime.fromisoformat(session["started_at"])
    ended = datetime.now(UTC) if is_live else _last_write(folder)
    if ended is None or ended <= started:
        return None
    num_rows: int = counts.accounted - session["from"]
    return num_rows / (ended - started).total_seconds()


def _last_write(folder: Path) -> datetime | None:
    times = [
        path.stat().st_mtime
        for name in (TRANSCRIPTS, REJECTED, ROWS)
        if (path := folder / name).exists()
    ]
    return datetime.fromtimestamp(max(times), UTC) if times else None
