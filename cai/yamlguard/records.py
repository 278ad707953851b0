"""Loaded data to a pydantic record; every complaint has its line and names the fix.

A key without a value is a complaint too. Start from `validate`; `examine` gives all complaints at
once, for a linter; `problem` is how a model's own validator points at one of its parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from cai.registry import did_you_mean
from cai.yamlguard.events import KeyPath
from cai.yamlguard.loader import Loaded
from cai.yamlguard.text import one_line
from cai.yamlguard.words import describe, path_text

ModelT = TypeVar("ModelT", bound=BaseModel)


class Problem(NamedTuple):
    """One complaint about a loaded file, with its place."""

    message: str
    line: int
    column: int


def validate(model: type[ModelT], loaded: Loaded, *, strict: bool = True) -> ModelT:
    """The record that `loaded` describes; strict means that no text is read as a number.

    Raises the loader's error for the first problem by line, and says how many more there are.
    """
    record, problems = examine(model, loaded, strict=strict)
    if record is None:
        first, *rest = problems
        more = f" (and {len(rest)} more)" if rest else ""
        raise loaded.error(
            first.message + more, path=loaded.path, line=first.line, column=first.column
        )
    return record


def examine(
    model: type[ModelT], loaded: Loaded, *, strict: bool = True
) -> tuple[ModelT | None, list[Problem]]:
    """The record, or None and every problem, as `find_problems` orders them."""
    if loaded.data is None:
        return None, [Problem(f"the file is empty; it needs {_required(model)}", 1, 1)]
    if empty := list(_empty_values(loaded.data)):
        return None, sorted((_empty_problem(at, loaded) for at in empty), key=_by_place)
    try:
        # As JSON, so that strict still takes lists where a record holds tuples.
        return model.model_validate_json(json.dumps(loaded.data), strict=strict), []
    except ValidationError as exc:
        return None, find_problems(exc, model, loaded)


def find_problems(exc: ValidationError, model: type[BaseModel], loaded: Loaded) -> list[Problem]:
    """Every complaint of a ValidationError about `loaded`, in the order of the file.

    Missing keys come last: a misspelt key explains the one that is missing.
    """
    complaints = exc.errors(include_url=False)
    missing = [one for one in complaints if one["type"] == "missing"]
    others = [one for one in complaints if one["type"] != "missing"]
    return [
        found
        for group in (others, missing)
        for found in sorted({_problem(one, model, loaded) for one in group}, key=_by_place)
    ]


def problem(message: str, *at: str | int) -> PydanticCustomError:
    """What a validator raises about its part `at`; the message is shown as it is."""
    return PydanticCustomError("cai_problem", "{message}", {"message": message, "at": at})


def _problem(details: ErrorDetails, model: type[BaseModel], loaded: Loaded) -> Problem:
    at, name = _resolve(details["loc"], loaded.data)
    at = (*at, *details.get("ctx", {}).get("at", ()))
    is_key = details["type"] == "extra_forbidden"
    message = one_line(_describe(details, at, name, model))
    return Problem(message, *loaded.position(at, key=is_key))


def _by_place(one: Problem) -> tuple[int, int, str]:
    return one.line, one.column, one.message


def _empty_values(data: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    if data is None:
        yield at
    entries: Iterable[tuple[str | int, Any]] = ()
    if isinstance(data, dict):
        entries = data.items()
    elif isinstance(data, list):
        entries = enumerate(data)
    for key, value in entries:
        yield from _empty_values(value, (*at, key))


def _empty_problem(at: KeyPath, loaded: Loaded) -> Problem:
    line, column = loaded.position(at, key=True)
    message = one_line(f"{path_text(at)} has no value; write it or delete it")
    return Problem(message, line, column)


def _resolve(loc: Iterable[str | int], data: Any) -> tuple[KeyPath, str]:
    """The path in the data that a pydantic location means, and the name of its last part.

    Pydantic mixes names of union members into a location; what the data does not have is no step.
    """
    at: KeyPath = ()
    name = ""
    for part in loc:
        name = str(part)
        is_step = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if is_step:
            data = data[part]
            at = (*at, part)
    return at, name


def _describe(details: ErrorDetails, at: KeyPath, name: str, model: type[BaseModel]) -> str:
    where = path_text(at)
    if details["type"] == "missing":
        return f"'{name}' is missing{' from ' + where if where else ''}; add it"
    if details["type"] == "extra_forbidden":
        known = sorted({key for one in _models_at(model, at[:-1]) for key in one.model_fields})
        parent = path_text(at[:-1])
        way_out = did_you_mean(name, known) or f"; the keys are {', '.join(known)}"
        return f"unknown key '{name[:80]}'{' in ' + parent if parent else ''}{way_out}"
    return describe(details, where or "the file")


def _required(model: type[BaseModel]) -> str:
    names = [name for name, info in model.model_fields.items() if info.is_required()]
    return ", ".join(f"'{name}'" for name in names or model.model_fields)


def _models_at(model: type[BaseModel], at: KeyPath) -> set[type[BaseModel]]:
    """The models that may stand at a path, whatever lists and unions hold them."""
    found = {model}
    for part in at:
        if isinstance(part, str):
            fields = [one.model_fields[part] for one in found if part in one.model_fields]
            if fields:  # else a key of a mapping, whose values are of these models
                found = {inner for info in fields for inner in _models_in(info.annotation)}
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
