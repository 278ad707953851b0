"""What an unquoted scalar means: the core schema of YAML 1.2, nothing of YAML 1.1.

`no`, `on`, `12:30:45` and `1_000` are text, `010` is ten, `0o17` is fifteen. Start from `resolve`.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LARGEST = 2**63
_MOST_DIGITS = 30


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar. Raises ValueError for a number that cannot be taken."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number; write a number, or put it in quotes")
    for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            return _whole(text, base)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    return text


def _whole(text: str, base: int) -> int:
    # Python reads "0o17" and "0x1f" with their prefix; the length is checked before the cost is.
    value = int(text, base) if len(text.lstrip("-+0ox")) <= _MOST_DIGITS else _LARGEST
    if not -_LARGEST <= value < _LARGEST:
        raise ValueError("the number does not fit 64 bits; put it in quotes if it is text")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("the number is too large; put it in quotes if it is text")
    return value
