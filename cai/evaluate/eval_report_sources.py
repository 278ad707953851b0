"""What a report is made of: kept results, training runs, dataset runs and the demo's report.

Each is known by what its folder holds. A file that holds NaN, or was written by a newer version, is
refused by name. Start from `find_sources`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cai.errors import DataError, NotFoundError
from cai.evaluate.results import (
    FILE_NAME,
    FOLDER,
    EvalResult,
    folder_of,
    list_results,
    load,
    read_lines,
)
from cai.files import read_json, read_jsonl
from cai.registry import did_you_mean

FORMAT: Final = 1
CURVES: Final = "curves.jsonl"
DEMO: Final = "report.json"
MANIFEST: Final = "manifest.json"

_LINES = ("answers.jsonl", "verdicts.jsonl")


@dataclass(frozen=True, slots=True)
class KeptResult:
    """One evaluation's result, and the lines beside it by the file's name."""

    result: EvalResult
    path: Path
    lines: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """A training run: what it logged by step (`curves.jsonl`)."""

    name: str
    path: Path
    rows: Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset run. Its lines are read when they are needed, as there may be many."""

    name: str
    path: Path
    manifest: Mapping[str, Any]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its judged pairs."""
        return read_jsonl(self.path / "rows.jsonl")

    def transcripts(self) -> Iterator[dict[str, Any]]:
        """Its transcripts: draft, critiques, revisions."""
        return read_jsonl(self.path / "transcripts.jsonl")


@dataclass(frozen=True, slots=True)
class Demo:
    """A report of the demo's: rates by revision step and by policy."""

    name: str
    path: Path
    report: Mapping[str, Any]


@dataclass(slots=True)
class Sources:
    """Everything that a report is made of, each kind in the order in which it was named."""

    results: list[KeptResult] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    demos: list[Demo] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.results or self.trainings or self.datasets or self.demos)


def find_sources(names: Sequence[str], home: Path) -> Sources:
    """The sources that are named by id or path; without names all that the home folder has.

    Raises NotFoundError, with the closest name, where one is not there or there is nothing at all,
    and DataError for a file that cannot be used.
    """
    found = Sources()
    for name in names:
        _add(found, name, home)
    if not names:
        _add_all(found, home)
    if found.is_empty:
        raise NotFoundError(
            f"no results in {home / FOLDER}, and no runs beside it; make one with "
            "'cai eval policy REF --suite NAME', or name a folder"
        )
    return found


def read_result(name: Path | str, home: Path) -> KeptResult:
    """A kept result by id or path, with its lines. Raises as `find_sources`."""
    path = folder_of(name, home)
    raw = read_json(path / FILE_NAME)
    _check_format(raw, path / FILE_NAME)
    _check_finite(raw, path / FILE_NAME)
    result = load(path, home)
    return KeptResult(result, path, {name: read_lines(path, result, name) for name in _LINES})


def _add(found: Sources, name: str, home: Path) -> None:
    path = Path(name)
    if not path.exists() and not (home / FOLDER / name / FILE_NAME).is_file():
        path = _within(home, name)
    folder = path.parent if path.is_file() else path
    if not path.exists() or (folder / FILE_NAME).is_file():
        found.results.append(read_result(folder if path.exists() else name, home))
    elif not _add_run(found, folder):
        raise NotFoundError(
            f"{name}: holds none of {FILE_NAME}, {CURVES}, {DEMO} and {MANIFEST}; name the folder "
            "of a result, a training run, a dataset run or the demo"
        )


def _within(home: Path, name: str) -> Path:
    """A run below home by its name; the name itself where there is none, for its error."""
    for folder in (home / "runs" / name, home / name):
        if folder.is_dir():
            return folder
    known = [one.name for part in ("runs", FOLDER) for one in (home / part).glob("*")]
    if guess := did_you_mean(name, known):
        raise NotFoundError(f"no result or run '{name[:200]}'{guess}", param="result")
    return Path(name)


def _add_all(found: Sources, home: Path) -> None:
    found.results.extend(read_result(one.id, home) for one in list_results(home))
    for folder in (*sorted((home / "runs").glob("*/")), home / "demo"):
        _add_run(found, folder)


def _add_run(found: Sources, folder: Path) -> bool:
    """Add what a folder holds, and the runs that the demo keeps beside its report."""
    name = _free_name(found, folder)
    kinds = [kind for kind in (CURVES, MANIFEST, DEMO) if (folder / kind).is_file()]
    if CURVES in kinds:
        found.trainings.append(_training(folder, name))
    if MANIFEST in kinds:
        found.datasets.append(_dataset(folder, name))
    if DEMO in kinds:
        found.demos.append(_demo(folder, name))
        for below in (*sorted(folder.glob("*/")), *sorted((folder / "training").glob("*/"))):
            inside = f"{name}/{below.name}"
            if (below / CURVES).is_file():
                found.trainings.append(_training(below, inside))
            elif (below / MANIFEST).is_file() and (below / "transcripts.jsonl").is_file():
                found.datasets.append(_dataset(below, inside))
    return bool(kinds)


def _free_name(found: Sources, folder: Path) -> str:
    """The folder's name, or its path where another run has that name."""
    name = folder.resolve().name
    taken = {one.name for one in found.trainings}
    taken |= {one.name for one in found.datasets} | {one.name for one in found.demos}
    return str(folder) if name in taken else name


def _training(folder: Path, name: str) -> Training:
    rows: list[dict[str, float]] = []
    for number, row in enumerate(read_jsonl(folder / CURVES), start=1):
        where = f"{folder / CURVES}:{number}"
        if not isinstance(row, Mapping) or not _is_number(row.get("step")):
            raise DataError(f"{where}: no line of curves: 'step' should be a number")
        _check_finite(row, where)
        rows.append({name: value for name, value in row.items() if _is_number(value)})
    return Training(name, folder, rows)


def _dataset(folder: Path, name: str) -> Dataset:
    return Dataset(name, folder, _checked(folder / MANIFEST))


def _demo(folder: Path, name: str) -> Demo:
    report = _checked(folder / DEMO)
    steps = report.get("revisions", [])
    if not isinstance(steps, list) or not all(isinstance(one, Mapping) for one in steps):
        raise DataError(
            f"{folder / DEMO}: 'revisions' should be a list of steps; is it the demo's?"
        )
    return Demo(name, folder, report)


def _checked(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: should be a JSON object")
    _check_format(value, path)
    _check_finite(value, path)
    return value


def _check_format(value: Any, path: Path) -> None:
    format = value.get("format") if isinstance(value, Mapping) else None
    if isinstance(format, int | float) and format > FORMAT:
        raise DataError(
            f"{path}: has format {format:g}, and this version reads up to {FORMAT}; upgrade it"
        )


def _check_finite(value: Any, where: Path | str) -> None:
    """Raise DataError naming the first figure that is no number."""
    if (place := _not_finite(value)) is not None:
        raise DataError(f"{where}: {place} is not a number; run it anew, or take it out")


def _not_finite(value: Any, at: str = "") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return at or "the value"
    inside: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inside = iter(value.items())
    elif isinstance(value, list):
        inside = iter(enumerate(value))
    found = (_not_finite(one, f"{at}.{name}" if at else str(name)) for name, one in inside)
    return next((place for place in found if place is not None), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
