"""An evaluation's `answers.jsonl` as items: two policies' answers to one prompt, or single ones.

Pairs are made of answers whose conversations are the same up to the last turn, with what the
judge said of them. Holds the file's lines for pairs. Start from `of_evaluation`.
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
from cai.review.verdicts import About, about, read_verdicts

_ABOUT = ("suite", "prompt", "sample")
_NEEDED = ("prompt", "policy", "messages", "answers")


def is_evaluation(record: Any) -> bool:
    """Whether a record is a line of an evaluation's answers, or of an arena's."""
    return isinstance(record, Mapping) and all(name in record for name in _NEEDED)


def of_evaluation(file: Path, kind: Kind) -> Iterator[ItemDraft | Skipped]:
    """Pairs of policies, or each answer to be rated; lines without an answer are told."""
    verdicts = read_verdicts(file)
    groups: dict[About, list[ItemDraft]] = defaultdict(list)
    for record in iter_records(file):
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            draft = _single(record.value)
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)
            continue
        key = about(record.value)
        if kind == "rating":
            said = verdicts.on_answer(key, str(draft.policies[0]))
            yield draft.model_copy(update={"opinions": said})
        else:
            groups[key].append(draft)
    for key, drafts in groups.items():
        for one, other in combinations(drafts, 2):
            if one.prompt == other.prompt and one.answers != other.answers:
                yield draft_pair(
                    one.prompt,
                    (one.answers[0], other.answers[0]),
                    policies=(one.policies[0], other.policies[0]),
                    opinions=verdicts.on_pair(key, str(one.policies[0]), str(other.policies[0])),
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
        origin={name: value[name] for name in _ABOUT if name in value},
    )
