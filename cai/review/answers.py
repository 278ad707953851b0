"""An evaluation's `answers.jsonl` as items: two policies' answers to one prompt, or single ones.

Pairs are made of answers whose conversations are the same up to the last turn. Holds the file's
lines for pairs. Start from `of_evaluation`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from cai.dataset.conversations import UnusableRow, check_text, read_messages
from cai.dataset.importers.records import Skipped, iter_records
from cai.review.records import ItemDraft, Kind, Turns, draft_pair

_ABOUT = ("suite", "prompt", "sample")


def is_evaluation(record: Any) -> bool:
    """Whether a record is a line of an evaluation's answers."""
    return isinstance(record, Mapping) and all(
        name in record for name in (*_ABOUT, "policy", "messages", "answers")
    )


def of_evaluation(file: Path, kind: Kind) -> Iterator[ItemDraft | Skipped]:
    """Pairs of policies, or each answer to be rated; lines without an answer are told."""
    groups: dict[tuple[str, ...], list[ItemDraft]] = defaultdict(list)
    for record in iter_records(file):
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            draft = _single(record.value)
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)
            continue
        if kind == "rating":
            yield draft
        else:
            groups[tuple(str(record.value[name]) for name in _ABOUT)].append(draft)
    for drafts in groups.values():
        for one, other in combinations(drafts, 2):
            if one.prompt == other.prompt and one.answers != other.answers:
                yield draft_pair(
                    one.prompt,
                    (one.answers[0], other.answers[0]),
                    policies=(one.policies[0], other.policies[0]),
                    origin=one.origin,
                )


def _single(value: Mapping[str, Any]) -> ItemDraft:
    messages = read_messages(value.get("messages"), "messages")
    check_text(messages)
    if messages[-1].role != "assistant" or not messages[-1].content.strip():
        raise UnusableRow("empty-answer", "the conversation does not end with an answer")
    turns: Turns = [message.as_dict() for message in messages]
    return ItemDraft(
        kind="rating",
        prompt=turns[:-1],
        answers=(turns[-1:],),
        policies=(str(value["policy"]),),
        origin={name: value[name] for name in _ABOUT},
    )
