"""Pydantic's complaints about a value in words that name the fix. Start from `describe`."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

from cai.registry import did_you_mean
from cai.yamlguard.events import KeyPath

_KINDS = {
    "string_type": "text; put it in quotes if it is meant as text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list; begin each entry with '- ' or write [a, b]",
    "list_type": "a list; begin each entry with '- ' or write [a, b]",
    "dict_type": "a mapping; write lines of 'key: value'",
    "model_type": "a mapping; write lines of 'key: value'",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def describe(details: ErrorDetails, where: str) -> str:
    """What is wrong with the value that stands at `where`, and what it must be."""
    kind, value, ctx = details["type"], details["input"], details.get("ctx", {})
    if kind == "cai_problem":
        return details["msg"]
    if kind in _KINDS:
        return f"{where} is {_kind_of(value)} and must be {_KINDS[kind]}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{where} is {value} and must be {words} {ctx[key]:g}"
    if kind == "literal_error":
        choices = ctx["expected"]
        return f"{where} is {value!r:.80} and must be {choices}{_guess(value, choices)}"
    if kind in ("string_too_short", "too_short"):
        needed = "word" if isinstance(value, str) else "entry"
        return f"{where} is empty; write at least one {needed}"
    message = details["msg"]
    return f"{where} is {value!r:.80}: {message[:1].lower()}{message[1:]}"


def path_text(at: KeyPath) -> str:
    """A path as people write it: principles[0].weight."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, str):
        return f"the text {value!r:.80}"
    names = {bool: "true or false", dict: "a mapping", list: "a list"}
    return names.get(type(value), f"the number {value}")


def _guess(value: Any, choices: str) -> str:
    words = choices.replace(" or ", ", ").replace("'", "").split(", ")
    return did_you_mean(value, words) if isinstance(value, str) else ""
