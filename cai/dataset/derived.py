"""Run directories made of other data: an imported file, people's feedback, or several runs merged.

Nothing is generated, so an unfinished one is begun again; a finished one is left as it is.
Start from `import_run`, `feedback_run` or `merge_runs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal

from cai.dataset.export.exporting import read_rows
from cai.dataset.feedback import Unusable, rows_of_feedback
from cai.dataset.hashes import HashTable, hash_key
from cai.dataset.human import Agreement, NoConsensus, agreement, consensus, merge, with_weights
from cai.dataset.importers import Imported, ImportReport, Skipped, detect_format, import_rows
from cai.dataset.lock import RunLock
from cai.dataset.manifest import begin_derived, end_session
from cai.dataset.preferences import Source
from cai.dataset.records import DONE, MANIFEST, ROWS, Counts, rejected_row
from cai.dataset.resume import OWN_FILES, check_kind, check_same, prepare_folder, read_manifest
from cai.dataset.writer import RunWriter
from cai.errors import ConflictError, DataError
from cai.files import digest_file, digest_json

Mode = Literal["auto", "fresh"]
Row = dict[str, Any]
Fill = Callable[["_Filling"], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Derived:
    """A run that was made of other data. `worked` is False when it was there already."""

    folder: Path
    manifest: dict[str, Any]
    worked: bool


def import_run(
    path: Path,
    out: Path,
    *,
    format: str | None = None,
    source: Source | None = None,
    weight: float = 1.0,
    mode: Mode = "auto",
) -> Derived:
    """Write the preferences of a foreign file as a run: rows, and what was left out, by line.

    Without `format` it is known by the file's first record. Raises InputError where the file as a
    whole is unusable, ConfigError where `out` was made by other settings.
    """
    known_as = format or detect_format(path)
    settled = {
        "file": path.name,
        "digest": _digest_of(path),
        "format": known_as,
        "source": source,
        "weight": weight,
    }

    def fill(filling: _Filling) -> Mapping[str, Any]:
        report = ImportReport()
        items = import_rows(path, format=known_as, source=source, weight=weight)
        for is_row, group in groupby(items, key=lambda item: _place(item)):
            found = list(group)
            for item in found:
                report.add(item)
            if is_row[0]:
                filling.writer.keep_pairs([one.row for one in found if isinstance(one, Imported)])
            else:
                for one in found:
                    assert isinstance(one, Skipped), "the other kind is a row"
                    filling.reject(one.line, "read", one.reason, one.detail)
        filling.counts.notes.update(report.notes)
        filling.counts.duplicates = report.notes["duplicate"]
        return {"lines": [line for line in report.lines if "note" in line]}

    return _derive(out, "import", settled, mode, fill)


def merge_runs(
    runs: Sequence[Path],
    out: Path,
    *,
    weights: Mapping[str, float] | None = None,
    min_labelers: int = 1,
    min_share: float = 0.5,
    mode: Mode = "auto",
) -> Derived:
    """Write several runs as one: people's labels come to a consensus and override the judge's.

    Where both labelled a pair, the manifest's `judge_stats` say how often the judge was right. A
    judged pair that comes again is left out. Holds the human rows in memory, and no others.
    """
    settled = {
        "runs": {str(run): _digest_of_rows(run) for run in runs},
        "weights": dict(sorted((weights or {}).items())),
        "min_labelers": min_labelers,
        "min_share": min_share,
    }
    if out.resolve() in {run.resolve() for run in runs}:
        raise ConflictError(f"{out}: is one of the runs to be merged; give another --out")

    def fill(filling: _Filling) -> Mapping[str, Any]:
        people = [row for row in _rows_of(runs) if row["source"] == "human"]
        agreed: list[Row] = []
        for one in consensus(people, min_share=min_share, min_labelers=min_labelers):
            if isinstance(one, NoConsensus):
                filling.reject_pair(one)
            else:
                agreed.append(one)
        merged = merge(_once(row for row in _rows_of(runs) if row["source"] != "human"), agreed)
        sources: Counter[str] = Counter()
        for row in with_weights(merged.rows, weights or {}):
            if row["source"] == "ai" and "label" in row:  # people did not label this pair
                merged.judge.observe_row(row["label"], row["p_chosen"])
            sources[row["source"]] += 1
            filling.writer.keep_pairs([row])
        told: Agreement = agreement(people)
        return {
            "judge_stats": merged.judge.as_dict(),
            "sources": dict(sorted(sources.items())),
            **({"agreement": told.as_dict()} if told.num_pairs else {}),
        }

    return _derive(out, "merge", settled, mode, fill)


def feedback_run(
    records: Sequence[Mapping[str, Any]], out: Path, *, weight: float = 1.0, mode: Mode = "auto"
) -> Derived:
    """Write what people said of answers as a run of human rows; `records` as `rows_of_feedback`.

    Raises ConfigError where `out` was made of other feedback.
    """
    digest = digest_json([record["id"] for record in records])
    settled = {"feedback": len(records), "digest": digest, "weight": weight}
    place = {record["id"]: number for number, record in enumerate(records, start=1)}

    def fill(filling: _Filling) -> Mapping[str, Any]:
        for one in rows_of_feedback(records):
            if isinstance(one, Unusable):
                filling.reject(place[one.id], "read", one.reason, one.detail)
            elif isinstance(one, NoConsensus):
                filling.reject_pair(one)
            else:
                filling.writer.keep_pairs([{**one, "weight": weight}])
        return {}

    return _derive(out, "feedback", settled, mode, fill)


class _Filling:
    """What a derived run is written with."""

    def __init__(self, folder: Path, config_digest: str) -> None:
        self.counts = Counts()
        self.writer = RunWriter(folder, self.counts)
        self._config_digest = config_digest
        self._num_undecided = 0

    def reject(self, line: int, stage: str, reason: str, detail: str) -> None:
        """Say what became of a line of the source."""
        rejected = rejected_row(
            digest_json(["line", line]),
            line,
            stage=stage,
            reason=reason,
            detail=detail,
            config_digest=self._config_digest,
        )
        self.writer.reject(rejected)

    def reject_pair(self, pair: NoConsensus) -> None:
        """Say that labelers do not agree on a pair; pairs have no line, so they are numbered."""
        self._num_undecided += 1
        detail = f"{pair.share:.0%} of {pair.num_labelers} labelers agree"
        self.reject(self._num_undecided, "consensus", "no-consensus", detail)


def _derive(out: Path, kind: str, settled: Mapping[str, Any], mode: Mode, fill: Fill) -> Derived:
    prepare_folder(out, mode=mode)
    lock = RunLock.take(out)
    try:
        check_kind(out, kind)
        if mode == "auto" and (out / MANIFEST).exists():
            before = read_manifest(out)
            check_same(out, before["config"], settled)
            if (out / DONE).exists():
                return Derived(out, before, worked=False)
        for name in OWN_FILES:
            (out / name).unlink(missing_ok=True)
        return Derived(out, _write(out, begin_derived(kind, settled), fill), worked=True)
    finally:
        lock.release()


def _write(out: Path, manifest: Mapping[str, Any], fill: Fill) -> dict[str, Any]:
    filling = _Filling(out, manifest["config_digest"])
    try:
        filling.writer.write_manifest(manifest)
        told = fill(filling)
        whole = end_session(manifest, filling.counts, told, num_inputs=filling.counts.accounted)
        filling.writer.finish(whole)
    finally:
        filling.writer.close()
    return whole


def _place(item: Imported | Skipped) -> tuple[bool, int]:
    return isinstance(item, Imported), item.line


def _digest_of_rows(run: Path) -> str:
    """Digest of a run's rows; raises DataError where there are none."""
    read_rows(run)
    return _digest_of(run / ROWS if run.is_dir() else run)


def _digest_of(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as exc:
        raise DataError(f"{path}: cannot be read: {exc.strerror}; check the path") from None


def _rows_of(runs: Sequence[Path]) -> Iterator[Row]:
    return chain.from_iterable(read_rows(run) for run in runs)


def _once(rows: Iterator[Row]) -> Iterator[Row]:
    """Rows without those whose id has come before."""
    seen = HashTable()
    return (row for row in rows if seen.add(hash_key(digest_json(row["id"]))) == 1)
