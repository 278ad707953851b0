"""Rows of ours into the files of another format. Start from `export_rows`.

A file gets all rows; a folder gets a train and a test split that never share a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.schema import Constitution
from cai.dataset.conversations import UnusableRow
from cai.dataset.export import shapes
from cai.dataset.export.annotated import write_annotated
from cai.dataset.export.files import FILE_ENDINGS, Folder, SingleFile
from cai.dataset.export.options import ExportOptions, ExportReport
from cai.dataset.export.readme import hub_header
from cai.dataset.hashes import HashTable, hash_key
from cai.dataset.preferences import check_row
from cai.dataset.records import ROWS, TRANSCRIPTS
from cai.errors import ConfigError, DataError
from cai.files import digest_json, read_jsonl
from cai.registry import did_you_mean

Row = dict[str, Any]
Card = Callable[[Mapping[str, str], ExportReport], Mapping[str, str]]


class _Target(NamedTuple):
    shape: shapes.Shape
    is_folder: bool
    once: tuple[str, ...] = ()  # kinds of split that hold each record once


_TARGETS = {
    "trl": _Target(shapes.trl, False),
    "trl-sft": _Target(shapes.trl_sft, False, (shapes.ALL,)),
    "trl-unpaired": _Target(shapes.trl_unpaired, False),
    "ultrafeedback": _Target(shapes.ultrafeedback, True, (shapes.SFT, shapes.GEN)),
    "hf-cai": _Target(shapes.hf_cai, True, (shapes.SFT,)),
    "rows": _Target(shapes.ours, False),
}
FORMATS = (*_TARGETS, "annotated-pairs")
_TAKES_COLUMNS = ("trl", "trl-unpaired")


def export_rows(
    rows: Iterable[Row],
    format: str,
    out: Path,
    *,
    options: ExportOptions | None = None,
    constitution: Constitution | None = None,
    card: Card | None = None,
    name: str | None = None,
) -> ExportReport:
    """Write `rows` to `out` in a format: a file by its ending, else a folder with splits.

    `card` makes what stands beside a folder's data, from its files by split: README.md and such,
    each with its text. The output appears whole or
    not at all. Raises DataError when every row was left out, ConflictError for a folder that is
    there already.
    """
    settings = options or ExportOptions()
    _check(format, out, settings)
    report = ExportReport()
    wanted = _wanted(rows, settings, report)
    if format == "annotated-pairs":
        write_annotated(wanted, out, name=name or out.stem, report=report)
        return report
    is_file = out.name.endswith(FILE_ENDINGS)
    target = SingleFile(out) if is_file else Folder(out, settings.file_type)
    form = _TARGETS[format]
    if format == "rows" and (out.name if is_file else settings.file_type).endswith("parquet"):
        form = form._replace(shape=shapes.ours_in_columns)
    try:
        _write(wanted, form, target, settings, constitution, report)
        if isinstance(target, Folder):
            files = target.finish()
            header = hub_header(files, pretty_name=name or out.name)
            beside = card(files, report) if card else {"README.md": header}
            for file_name, text in beside.items():
                (target.staging / file_name).write_text(text, encoding="utf-8")
        report.files = target.commit()
    except OSError as exc:
        target.discard()
        raise DataError(f"{out}: cannot be written: {exc.strerror or exc}") from exc
    except BaseException:
        target.discard()
        raise
    return report


def read_rows(path: Path) -> Iterator[Row]:
    """Preference rows of a run directory or of a `.jsonl` file of ours.

    Raises DataError when there are none to read.
    """
    if path.is_dir():
        if not (path / ROWS).exists():
            raise DataError(
                f"{path}: the run has no pairs ({ROWS} is missing); give it a judge, or export "
                "its transcripts as trl-sft"
            )
        return read_jsonl(path / ROWS)
    if not path.exists():
        raise DataError(f"{path}: no such run or file; check the path")
    return _checked_rows(path)


def _checked_rows(path: Path) -> Iterator[Row]:
    """Rows of a file that anyone may have written."""
    for number, record in enumerate(read_jsonl(path), start=1):
        try:
            yield check_row(record)
        except UnusableRow as exc:
            raise DataError(
                f"{path}:{number}: not a preference row of ours: {exc.detail}; bring other formats "
                "in with 'cai data import'"
            ) from None


def read_answers(run: Path) -> Iterator[Row]:
    """A run's final answers as rows that `trl-sft` can hold: for a run without a judge."""
    for transcript in read_jsonl(run / TRANSCRIPTS):
        if transcript["answer"]:
            yield {
                "input_id": transcript["input_id"],
                "prompt": transcript["prompt"],
                "chosen": [{"role": "assistant", "content": transcript["answer"]}],
                "p_chosen": 1.0,
            }


def split_of(prompt: Any, test_share: float) -> str:
    """`train` or `test`, by a hash of the prompt alone: the same in every data set and export."""
    digest = hashlib.sha256(f"split|{digest_json(prompt)}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") / 2**64 < test_share else "train"


def _write(
    rows: Iterable[Row],
    format: _Target,
    target: SingleFile | Folder,
    options: ExportOptions,
    constitution: Constitution | None,
    report: ExportReport,
) -> None:
    seen = {kind: HashTable() for kind in format.once}
    for row in rows:
        try:
            records = format.shape(row, options, constitution)
        except shapes.LeftOut as exc:
            report.left_out[str(exc)] += 1
            continue
        split = split_of(row["prompt"], options.test_share)
        for kind, record in records:
            if kind in seen and seen[kind].add(_key(kind, row)) > 1:
                continue
            name = f"{split}_{kind}" if kind else split
            if isinstance(target, SingleFile):
                name = "all"
            target.writer(name).write(record)
            report.splits[name] += 1


def _key(kind: str, row: Row) -> bytes:
    """What is there once in a split that has nothing twice: a prompt, or a prompt and answer."""
    same = row["prompt"] if kind == shapes.GEN else [row["prompt"], row["chosen"]]
    return hash_key(digest_json(same))


def _wanted(rows: Iterable[Row], options: ExportOptions, report: ExportReport) -> Iterator[Row]:
    for row in rows:
        if row["p_chosen"] < options.min_p_chosen:
            report.left_out["low-p-chosen"] += 1
        else:
            yield row


def _check(format: str, out: Path, options: ExportOptions) -> None:
    if format not in FORMATS:
        raise ConfigError(
            f"no export format '{format}'{did_you_mean(format, FORMATS)}; "
            f"there are: {', '.join(FORMATS)}, openai-batch",
            param="format",
        )
    is_file = out.name.endswith((*FILE_ENDINGS, ".json"))
    if format == "annotated-pairs" and not out.name.endswith(".json"):
        raise ConfigError(f"{out}: annotated-pairs is one .json file", param="out")
    if format in _TARGETS and _TARGETS[format].is_folder and is_file:
        raise ConfigError(f"{out}: {format} is a folder with splits; leave the ending out")
    if options.margin and format != "trl":
        raise ConfigError(f"'{format}' has no margin; only trl has", param="margin")
    if options.extra and format not in _TAKES_COLUMNS:
        raise ConfigError(f"'{format}' takes no extra columns; trl does", param="extra")
