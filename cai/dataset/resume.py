"""What an earlier session left in a run directory, and whether this one may go on from there.

Goes on only under the same settings; else it names those that differ. Cuts what a kill left
unfinished, so that each input is kept, rejected or owed, and nothing else. Start from `take_stock`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cai.dataset.hashes import HashTable, hash_key
from cai.dataset.records import (
    CONFIG,
    DONE,
    LOCK,
    MANIFEST,
    REJECTED,
    ROWS,
    TRANSCRIPTS,
    Counts,
    encode_row,
)
from cai.errors import ConfigError, ConflictError, DataError, NotFoundError
from cai.files import drop_torn_line, read_json, read_jsonl

Mode = Literal["auto", "resume", "fresh"]

OWN_FILES = (DONE, ROWS, TRANSCRIPTS, REJECTED, CONFIG, MANIFEST)  # in the order of removal

_MAX_TOLD = 6  # differing settings that an error names
_REJECTED, _PAIRED, _KEPT = 1, 2, 4


@dataclass(slots=True)
class Stock:
    """What is there: the manifest (None for a new run), and where each input stands."""

    manifest: dict[str, Any] | None = None
    counts: Counts = field(default_factory=Counts)
    is_done: bool = False
    places: HashTable = field(default_factory=HashTable)
    num_unfinished: int = 0

    def has(self, input_id: str) -> bool:
        """Whether the input is accounted for: kept or rejected."""
        return bool(self.places[hash_key(input_id)] & (_KEPT | _REJECTED))


def prepare_folder(folder: Path, *, mode: Mode) -> None:
    """Make the folder, or check that it is one of ours. Nothing in it is changed.

    Raises DataError for a folder that holds something else, NotFoundError when `resume` finds
    nothing to go on from.
    """
    if mode == "resume" and not (folder / MANIFEST).exists():
        raise NotFoundError(f"{folder}: no run to resume; leave --resume out to start one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = set(os.listdir(folder))
    except OSError as exc:
        raise DataError(f"{folder}: cannot be used as a run directory: {exc.strerror}") from exc
    strangers = [name for name in names if name != LOCK and not _is_temporary(name)]
    if strangers and MANIFEST not in names:
        raise DataError(
            f"{folder}: holds files but no run ({MANIFEST} is missing); give another --out"
        )


def take_stock(folder: Path, settled: Mapping[str, Any], *, mode: Mode, judged: bool) -> Stock:
    """Read the run under its lock; mend it, or clear it away for `fresh`.

    `settled` is every setting that decides the rows. Raises ConfigError naming those that differ.
    """
    check_kind(folder, "generate")
    for name in filter(_is_temporary, os.listdir(folder)):
        (folder / name).unlink(missing_ok=True)
    if mode == "fresh":
        for name in OWN_FILES:
            (folder / name).unlink(missing_ok=True)
    if not (folder / MANIFEST).exists():
        return Stock()
    manifest = read_manifest(folder)
    check_same(folder, manifest["config"], settled)
    stock = _mend(folder, judged=judged)
    stock.manifest, stock.is_done = manifest, (folder / DONE).exists()
    return stock


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run. Raises NotFoundError or DataError."""
    path = folder / MANIFEST
    if not path.exists():
        raise NotFoundError(f"{folder}: no run there ({MANIFEST} is missing)")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != 1 or "config" not in manifest:
        raise DataError(f"{path}: not a manifest of format 1; give another --out")
    return manifest


def check_kind(folder: Path, kind: str) -> None:
    """Raise ConflictError where another command made what is there: no mode may replace that."""
    try:
        found = read_manifest(folder).get("kind", "generate")
    except (NotFoundError, DataError):
        return
    if found != kind:
        raise ConflictError(f"{folder}: holds what 'cai data {found}' made; give another --out")


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigError naming every setting that is not as it was, with both values."""
    keys = sorted({*before, *now}, key=lambda key: (key not in before or key not in now, key))
    differing = [key for key in keys if before.get(key) != now.get(key)]
    if differing:
        told = "; ".join(
            f"{key} was {_show(before.get(key))} and is {_show(now.get(key))}"
            for key in differing[:_MAX_TOLD]
        )
        if len(differing) > _MAX_TOLD:
            told += f"; and {len(differing) - _MAX_TOLD} more"
        raise ConfigError(
            f"{folder}: the run was made with other settings: {told}. Give them as they were, "
            "start over with --fresh, or give another --out",
            param=differing[0],
        )


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_temporary(name: str) -> bool:
    return any(name.startswith(f".{own}.") and name.endswith(".tmp") for own in OWN_FILES)


def count_rows(folder: Path, *, judged: bool) -> Stock:
    """Where each input stands by the whole lines there; nothing is changed.

    Kept is an input with a transcript that was not rejected and, in a judged run, has a pair.
    """
    stock = Stock()
    counts, places = stock.counts, stock.places
    for row in read_jsonl(folder / REJECTED):
        _mark(places, row, _REJECTED, folder / REJECTED)
        counts.rejected[row["reason"]] += 1
    for row in read_jsonl(folder / ROWS):
        places[_key(row)] |= _PAIRED
    for row in read_jsonl(folder / TRANSCRIPTS):
        place = places[_key(row)]
        if place & _REJECTED:
            counts.add_cost(row)
        elif judged and not place & _PAIRED:
            stock.num_unfinished += 1
        else:
            _mark(places, row, _KEPT, folder / TRANSCRIPTS)
            counts.add_transcript(row)
    for row in read_jsonl(folder / ROWS):
        is_vouched = bool(places[_key(row)] & _KEPT)
        counts.pairs += is_vouched
        stock.num_unfinished += not is_vouched
    return stock


def _mend(folder: Path, *, judged: bool) -> Stock:
    """Cut what no later line vouches for: a torn line, a transcript or pairs without the rest."""
    for name in (ROWS, TRANSCRIPTS, REJECTED):
        drop_torn_line(folder / name)
    stock = count_rows(folder, judged=judged)
    if stock.num_unfinished:
        _cut(folder / ROWS, lambda row: bool(stock.places[_key(row)] & _KEPT))
        _cut(folder / TRANSCRIPTS, lambda row: stock.has(row["input_id"]))
        stock.num_unfinished = 0
    return stock


def _mark(places: HashTable, row: Mapping[str, Any], place: int, path: Path) -> None:
    key = _key(row)
    if places[key] & place:
        raise DataError(
            f"{path}: input {row['input_id']} is there twice; the file was changed by hand or by "
            "a second writer: start over with --fresh, or give another --out"
        )
    places[key] |= place


def _key(row: Mapping[str, Any]) -> bytes:
    return hash_key(row["input_id"])


def _cut(path: Path, wanted: Callable[[Any], bool]) -> None:
    """Rewrite a file of ours without the lines that are not wanted, as a whole or not at all."""
    if not path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for row in read_jsonl(path):
                if wanted(row):
                    file.write(encode_row(row))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be rewritten: {exc.strerror}") from exc
