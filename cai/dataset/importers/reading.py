"""Foreign preference files as rows of ours, with every line that was not used and why.

Start from `import_rows(path)`. Memory does not grow with the rows, but for `trl-unpaired`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.dataset.conversations import UnusableRow
from cai.dataset.hashes import HashTable, hash_key
from cai.dataset.human import pairs_of_ranking
from cai.dataset.importers.annotated import iter_annotated
from cai.dataset.importers.formats import NAMES, Format, detect, get_format
from cai.dataset.importers.pairs import Pair
from cai.dataset.importers.records import Record, Skipped, first_record, iter_records
from cai.dataset.importers.unpaired import iter_unpaired
from cai.dataset.preferences import Source, check_row, preference_row
from cai.errors import DataError
from cai.files import digest_json


class Imported(NamedTuple):
    """A row, its place in the file, and what was mended to get it, if anything."""

    line: int
    row: dict[str, Any]
    note: str | None = None


class ImportReport:
    """Counts of an import, and the first lines that were not used or were mended."""

    def __init__(self, *, max_shown: int = 1000) -> None:
        self.num_rows = 0
        self.skipped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.lines: list[dict[str, Any]] = []
        self._max_shown = max_shown

    def add(self, item: Imported | Skipped) -> None:
        """Count one outcome."""
        if isinstance(item, Skipped):
            self.skipped[item.reason] += 1
            self._show({"line": item.line, "skipped": item.reason, "detail": item.detail})
            return
        self.num_rows += 1
        if item.note is not None:
            self.notes[item.note] += 1
            self._show({"line": item.line, "note": item.note})

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and `--json`."""
        return {
            "rows": self.num_rows,
            "skipped": dict(sorted(self.skipped.items())),
            "notes": dict(sorted(self.notes.items())),
            "lines": self.lines,
        }

    def _show(self, line: dict[str, Any]) -> None:
        if len(self.lines) < self._max_shown:
            self.lines.append(line)


def detect_format(path: Path) -> str:
    """The name of a file's format, by its first record. Raises DataError when it is of none."""
    record = first_record(path)
    found = detect(record)
    if found is None:
        keys = ", ".join(sorted(record)[:12]) if isinstance(record, Mapping) else "no object"
        raise DataError(
            f"{path}: of no known preference format (its first record has: {keys}); "
            f"name one with --format: {', '.join(NAMES)}"
        )
    return found.name


def import_rows(
    path: Path,
    *,
    format: str | None = None,
    source: Source | None = None,
    weight: float = 1.0,
) -> Iterator[Imported | Skipped]:
    """Rows of the file in its order. Without `format` it is known by the first record.

    `source` overrides who the labels are said to come from. A pair that comes again keeps its
    own id, with the note `duplicate`. Raises InputError where the file as a whole is unusable.
    """
    chosen = get_format(format or detect_format(path))
    seen = HashTable()
    for item in _parsed(chosen, path):
        if isinstance(item, Skipped):
            yield item
            continue
        line, ready = item
        for row, note in (_ready(one, chosen, line, source, weight) for one in ready):
            count = seen.add(hash_key(digest_json(row["id"])))
            if count > 1:
                row["id"] = digest_json([row["id"], count])
                note = note or "duplicate"
            yield Imported(line, row, note)


def _parsed(
    chosen: Format, path: Path
) -> Iterator[tuple[int, list[Pair] | list[dict[str, Any]]] | Skipped]:
    records = iter_records(path)
    if chosen.name == "annotated-pairs":
        yield from iter_annotated(first_record(path), path=path)
    elif chosen.name == "trl-unpaired":
        yield from iter_unpaired(records)
    else:
        for record in records:
            if isinstance(record, Skipped):
                yield record
                continue
            try:
                yield record.line, _parse(chosen, record)
            except UnusableRow as exc:
                yield Skipped(record.line, exc.reason, exc.detail)


def _parse(chosen: Format, record: Record) -> list[Pair] | list[dict[str, Any]]:
    if not isinstance(record.value, Mapping):
        raise UnusableRow("not-an-object", "expected a JSON object")
    if chosen.name == "cai":
        return [check_row(_with_details(record.value))]
    if chosen.name == "ranking":
        return pairs_of_ranking(record.value)
    assert chosen.parse is not None, f"{chosen.name} has no parser of single records"
    return chosen.parse(record.value)


def _with_details(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row from a table: what stood in `details` is back in its place."""
    row = dict(record)
    if isinstance(details := row.pop("details", None), str):
        try:
            row |= json.loads(details)
        except (ValueError, TypeError) as exc:
            raise UnusableRow("invalid-json", f"in 'details': {exc}") from None
    return row


def _ready(
    one: Pair | dict[str, Any], chosen: Format, line: int, source: Source | None, weight: float
) -> tuple[dict[str, Any], str | None]:
    if isinstance(one, dict):
        row = dict(one)
        if source is not None:
            row["source"] = source
        row["weight"] = row.get("weight", 1.0) * weight
        return row, None
    known: Source = chosen.source if one.is_human is None else "human" if one.is_human else "ai"
    return (
        preference_row(
            prompt=one.prompt,
            chosen=one.chosen,
            rejected=one.rejected,
            p_chosen=one.p_chosen,
            source=source or known,
            weight=weight,
            labeler=one.labeler,
            origin={"format": chosen.name, "line": line, **one.origin},
            transcript=one.transcript,
        ),
        one.note,
    )
