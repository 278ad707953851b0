"""Preference rows: their shape, their ids, and what is checked before one is believed.

A row names where its label came from: a judge with its log-probs, labelers, or another data set.
Start from `preference_row`; `check_row` reads foreign JSON that claims to be one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from cai.dataset.conversations import UnusableRow, check_text, read_messages
from cai.dataset.records import FORMAT
from cai.files import digest_json
from cai.types import Conversation, Message

Source = Literal["ai", "human"]
Turns = list[dict[str, str]]
SOURCES: tuple[str, ...] = get_args(Source)


def preference_row(
    *,
    prompt: Conversation,
    chosen: str | Conversation,
    rejected: str | Conversation,
    p_chosen: float,
    source: Source,
    input_id: str | None = None,
    weight: float = 1.0,
    **more: Any,
) -> dict[str, Any]:
    """One line of `rows.jsonl`. `more` (label, constitution, policy, transcript, origin) as given.

    What is None is left out. Without `input_id` the input is known by its prompt.
    """
    first, second = _turns(chosen), _turns(rejected)
    known_as = input_id or prompt_id(prompt)
    row: dict[str, Any] = {
        "format": FORMAT,
        "id": pair_id(known_as, first, second),
        "input_id": known_as,
        "prompt": [message.as_dict() for message in prompt],
        "chosen": first,
        "rejected": second,
        "p_chosen": p_chosen,
        "source": source,
        "weight": weight,
    }
    return row | {name: value for name, value in more.items() if value is not None}


def prompt_id(prompt: Conversation) -> str:
    """Identity of an input that is known by its prompt alone."""
    return digest_json([message.as_dict() for message in prompt])


def pair_id(input_id: str, first: Turns, second: Turns) -> str:
    """Identity of a pair of answers: the same whichever of them was chosen, and by whom."""
    return digest_json([input_id, *sorted((digest_json(first), digest_json(second)))])


def pair_key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What two labels of the same pair share, even across data sets: prompt and both answers."""
    first, second = sorted((digest_json(row["chosen"]), digest_json(row["rejected"])))
    return digest_json(row["prompt"]), first, second


def answer_text(turns: Sequence[Mapping[str, str]]) -> str:
    """The text of a `chosen` or `rejected` value: its last message."""
    return turns[-1]["content"]


def check_row(record: Any) -> dict[str, Any]:
    """A record that claims to be a preference row of ours, checked field by field.

    Raises UnusableRow. Keys that a later version may add are kept as they are.
    """
    if not isinstance(record, dict):
        raise UnusableRow("not-an-object", "expected a JSON object")
    if record.get("format") != FORMAT:
        raise UnusableRow("unknown-format", f"'format' should be {FORMAT}")
    missing = [
        name for name in ("id", "input_id", "prompt", "chosen", "rejected") if name not in record
    ]
    if missing:
        raise UnusableRow("missing-field", f"'{missing[0]}' is missing")
    for name in ("prompt", "chosen", "rejected"):
        check_text(read_messages(record[name], name))
    p_chosen: Any = record.get("p_chosen")
    weight: Any = record.get("weight", 1.0)
    if not _is_number(p_chosen) or not 0 <= p_chosen <= 1:
        raise UnusableRow("bad-label", "'p_chosen' should be a number from 0 to 1")
    if not _is_number(weight) or weight < 0:
        raise UnusableRow("bad-weight", "'weight' should be a number, 0 or more")
    if record.get("source") not in SOURCES:
        raise UnusableRow("unknown-source", f"'source' should be one of {', '.join(SOURCES)}")
    return record


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _turns(answer: str | Conversation) -> Turns:
    said = (Message("assistant", answer),) if isinstance(answer, str) else answer
    return [message.as_dict() for message in said]
