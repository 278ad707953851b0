"""TRL's unpaired form: single answers marked good or bad, matched into pairs by their prompt."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cai.dataset.conversations import UnusableRow, read_messages
from cai.dataset.importers.pairs import Pair, checked_pair
from cai.dataset.importers.records import Record, Skipped
from cai.dataset.preferences import prompt_id
from cai.types import Conversation, Message


class _Waiting(NamedTuple):
    line: int
    prompt: Conversation
    answer: Conversation


def iter_unpaired(
    records: Iterable[Record | Skipped],
) -> Iterator[tuple[int, list[Pair]] | Skipped]:
    """A pair for each good answer that meets a bad one to the same prompt, at the later one's line.

    Only answers that have not met their other yet are held. Those that never do come last.
    """
    waiting: dict[tuple[str, bool], deque[_Waiting]] = {}
    for record in records:
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            one, is_good = _read(record)
            key = prompt_id(one.prompt)
            others = waiting.get((key, not is_good))
            if not others:
                waiting.setdefault((key, is_good), deque()).append(one)
                continue
            other = others.popleft()
            good, bad = (one, other) if is_good else (other, one)
            pair = checked_pair(one.prompt, good.answer, bad.answer)
            yield record.line, [pair._replace(origin={"other_line": other.line})]
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)
    alone = sorted((one.line, is_good) for (_, is_good), ones in waiting.items() for one in ones)
    for line, is_good in alone:
        other_kind = "bad" if is_good else "good"
        yield Skipped(line, "unpaired", f"no {other_kind} answer to the same prompt is left")


def _read(record: Record) -> tuple[_Waiting, bool]:
    value: Any = record.value
    if not isinstance(value, dict):
        raise UnusableRow("not-an-object", "expected a JSON object")
    label = value.get("label")
    if not isinstance(label, bool):
        raise UnusableRow("no-verdict", "'label' should be true or false")
    prompt, answer = value.get("prompt"), value.get("completion")
    asked = (
        (Message("user", prompt),) if isinstance(prompt, str) else read_messages(prompt, "prompt")
    )
    said = (
        (Message("assistant", answer),)
        if isinstance(answer, str)
        else read_messages(answer, "completion")
    )
    return _Waiting(record.line, asked, said), label
