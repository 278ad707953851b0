"""The queue's own export read back, one item a line: answers, opinions, and what was decided.

A line needs `kind`, `prompt` and `answers`; `exporting.review_line` writes it. Start from
`of_review`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cai.dataset.conversations import UnusableRow, check_text, parse_record, read_messages
from cai.dataset.importers.records import Skipped, iter_records
from cai.review.records import ItemDraft, Turns, draft_pair
from cai.yamlguard import describe

_FORMATS = (1, None)
_KINDS = {"pair": 2, "rating": 1}
"""How many answers an item has."""


def is_review_line(record: Any) -> bool:
    """Whether a record is an item of a queue."""
    answers = record.get("answers") if isinstance(record, Mapping) else None
    return (
        isinstance(answers, list)
        and "prompt" in record
        and record.get("kind") in _KINDS
        and all(isinstance(one, Mapping) and "turns" in one for one in answers)
    )


def of_review(file: Path) -> Iterator[ItemDraft | Skipped]:
    """The items, with their decisions; lines that are none are told."""
    for record in iter_records(file):
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            yield _draft(record.value)
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            yield Skipped(record.line, "bad-item", describe(first, where))


def _draft(value: Any) -> ItemDraft:
    if not is_review_line(value):
        raise UnusableRow("bad-item", "needs 'kind', 'prompt' and 'answers' with 'turns'")
    if value.get("format") not in _FORMATS:
        raise UnusableRow("bad-item", f"'format' is {str(value['format'])[:40]}; 1 is known here")
    kind, answers = value["kind"], [_turns(one["turns"]) for one in value["answers"]]
    if len(answers) != _KINDS[kind]:
        raise UnusableRow("bad-item", f"a {kind} has {_KINDS[kind]} answers, not {len(answers)}")
    told: dict[str, Any] = {
        "prompt": [one.as_dict() for one in parse_record({"messages": value["prompt"]}).messages],
        "policies": [one.get("policy") for one in value["answers"]],
        "origin": value.get("origin") or {},
    }
    said = ItemDraft.model_validate(
        {
            **{name: value.get(name) or () for name in ("opinions", "decisions")},
            **{"kind": kind, "answers": answers, "is_random": value.get("is_random"), **told},
        }
    )
    if kind == "rating":
        return said
    if answers[0] == answers[1]:
        raise UnusableRow("same-answers", "both answers are the same")
    return draft_pair(
        answers=answers,
        opinions=said.opinions,
        decisions=said.decisions,
        is_random=said.is_random,
        **told,
    )


def _turns(given: Any) -> Turns:
    answer = read_messages(given, "turns")
    if not answer[-1].content.strip():
        raise UnusableRow("empty-answer", "'turns' end in nothing")
    check_text(answer)
    return [one.as_dict() for one in answer]
