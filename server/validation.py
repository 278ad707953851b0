"""From bytes to a request model, or to one error that names the field and the way out.

JSON is taken strictly: no duplicate keys, no NaN, no lone surrogates, bounded depth and width.
Start from `parse_json` and `validate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from cai.errors import InputError, UnsupportedError
from cai.registry import did_you_mean
from server.unsupported import advice

MAX_KEYS = 64

_Model = TypeVar("_Model", bound=BaseModel)


class UnknownFieldError(InputError):
    """The request has a field that nothing here knows."""


class JsonError(InputError):
    """The body is not JSON as it is taken here."""


def refused(param: str, message: str) -> PydanticCustomError:
    """For validators of whole models: an error that knows its field."""
    return PydanticCustomError("refused", "{text}", {"text": message, "param": param})


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text; JsonError says what is wrong with it."""
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if b"\\ud" in raw or b"\\uD" in raw:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError:
        raise JsonError("the body has half of a surrogate pair (\\ud800 to \\udfff)") from None
    except UnicodeDecodeError as exc:
        raise JsonError(f"the body is not UTF-8 (byte {exc.start})") from None
    except json.JSONDecodeError as exc:
        raise JsonError(
            f"the body is not valid JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})"
        ) from None
    except RecursionError:
        raise JsonError("the body is nested too deeply") from None
    except ValueError:
        raise JsonError("the body holds a number of too many digits") from None


def validate(model: type[_Model], value: Any) -> _Model:
    """`value` as a record of `model`; raises one InputError for the first field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        unset = _unset_fields(errors)
        if unset:
            return validate(model, {k: v for k, v in value.items() if k not in unset})
        _raise_first(errors, model)


def _unset_fields(errors: Sequence[ErrorDetails]) -> set[str]:
    """Fields of OpenAI's API that are not supported here and were sent as null: not set at all."""
    return {
        str(error["loc"][0])
        for error in errors
        if error["type"] == "extra_forbidden"
        and len(error["loc"]) == 1
        and error["input"] is None
        and advice(str(error["loc"][0])) is not None
    }


def _raise_first(errors: Sequence[ErrorDetails], model: type[BaseModel]) -> NoReturn:
    error = _most_telling(errors)
    loc = error["loc"]
    if error["type"] == "extra_forbidden":
        _raise_extra(_path(loc[:-1]), str(loc[-1]), model)
    param = error.get("ctx", {}).get("param") or _path(loc)
    if error["type"] == "model_type" and not loc:
        raise JsonError("the body must be a JSON object")
    if error["type"] == "refused":
        raise InputError(error["msg"], param=param)
    raise InputError(f"{param}: {_words(error, param)}", param=param)


def _words(error: ErrorDetails, param: str) -> str:
    kind = error["type"]
    if kind == "missing":
        return "is required"
    if kind == "model_type":
        return "must be a JSON object"
    if kind == "literal_error" and param.endswith(".type"):
        return f"{error['input']!r:.60} is not supported here; send text"
    if kind == "string_pattern_mismatch":
        return f"{error['input']!r:.60} does not match {error['ctx']['pattern']}"
    return error["msg"]


def _raise_extra(parent: str, name: str, model: type[BaseModel]) -> NoReturn:
    short = name if len(name) <= 60 else name[:57] + "..."
    param = f"{parent}.{short}" if parent else short
    way_out = advice(name)
    if way_out is not None:
        raise UnsupportedError(f"'{param}' is not supported: {way_out}", param=param)
    known = () if parent else tuple(model.model_fields)
    raise UnknownFieldError(f"unknown field '{param}'{did_you_mean(short, known)}", param=param)


def _most_telling(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """Unknown fields first: they explain missing ones. Of a union, the member that was meant.

    That is the one which fails by its content and not by its kind, and the deepest such.
    """
    for error in errors:
        if error["type"] == "extra_forbidden":
            return error
    first = errors[0]
    same_field = [e for e in errors if e["loc"][:1] == first["loc"][:1]]
    return max(same_field, key=lambda e: (not e["type"].endswith("_type"), len(e["loc"])))


def _path(loc: Sequence[int | str]) -> str:
    """`messages[0].content` from ("messages", 0, "content", "str"): union members are no fields."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in {"str", "int"} and "-" not in part:
            path += f".{part}" if path else part
    return path


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonError(f"the key {twice!r:.60} is there twice in one object")
    if len(value) > MAX_KEYS:
        raise JsonError(f"an object has {len(value)} keys; at most {MAX_KEYS} are taken")
    return value


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
