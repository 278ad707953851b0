"""Annotated-pairs 2.0: one JSON object with comparisons, each labelled by several annotators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cai.dataset.conversations import UnusableRow, parse_hh, read_messages
from cai.dataset.importers.pairs import Pair, checked_pair
from cai.dataset.importers.records import Skipped
from cai.errors import DataError
from cai.types import Conversation, Message

_PREFERRED = {"a": "a", "b": "b", "text_a": "a", "text_b": "b"}


def iter_annotated(document: Any, *, path: object) -> Iterator[tuple[int, list[Pair]] | Skipped]:
    """The pairs of each comparison, numbered from 1: one for each annotator that is to be heard.

    Heard are the default annotator and all people; principles are a judge's, not labels.
    Raises DataError when the document is not of this format.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("comparisons"), list):
        raise DataError(f"{path}: not annotated pairs: 'comparisons' should be a list")
    people = document.get("annotators") or {}
    default = (document.get("metadata") or {}).get("default_annotator")
    for number, comparison in enumerate(document["comparisons"], start=1):
        try:
            yield number, _pairs(comparison, people, default)
        except UnusableRow as exc:
            yield Skipped(number, exc.reason, exc.detail)


def _pairs(comparison: Any, people: Mapping[str, Any], default: str | None) -> list[Pair]:
    if not isinstance(comparison, Mapping):
        raise UnusableRow("not-an-object", "the comparison should be an object")
    prompt = _prompt(comparison.get("prompt"))
    answers = {"a": _answer(comparison, "a"), "b": _answer(comparison, "b")}
    annotations = comparison.get("annotations") or {}
    pairs = []
    for annotator, annotation in annotations.items():
        kind = (people.get(annotator) or {}).get("type")
        side = _PREFERRED.get(str((annotation or {}).get("pref")))
        if side is None or (annotator != default and kind != "human"):
            continue
        pairs.append(
            checked_pair(
                prompt,
                answers[side],
                answers["b" if side == "a" else "a"],
                labeler=annotator,
                is_human=kind == "human" if kind in ("human", "ai") else None,
                origin=_origin(comparison),
            )
        )
    if not pairs:
        raise UnusableRow("no-verdict", "no annotator that counts prefers an answer")
    return pairs


def _prompt(value: Any) -> Conversation:
    if not isinstance(value, str):
        raise UnusableRow("no-prompt", "'prompt' should be text")
    if value.startswith("\n\nHuman:"):
        return parse_hh(value, field="prompt")
    return (Message("user", value),)


def _answer(comparison: Mapping[str, Any], side: str) -> Conversation:
    response = comparison.get(f"response_{side}", comparison.get(f"text_{side}"))
    text = response.get("text") if isinstance(response, Mapping) else response
    return read_messages([{"role": "assistant", "content": text}], f"response_{side}")


def _origin(comparison: Mapping[str, Any]) -> dict[str, Any]:
    return {name: comparison[name] for name in ("id", "metadata") if comparison.get(name)}
