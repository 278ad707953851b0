"""Preference rows from what people said of single answers: thumbs, ratings, better answers.

A better answer is preferred to the one that it corrects. Of two answers to one prompt the one that
people rated higher is preferred, and the one with thumbs up to the one with thumbs down. Knows
records; nothing of where they are kept. Start from `rows_of_feedback`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from cai.dataset.conversations import UnusableRow
from cai.dataset.human import MAX_OUTPUTS, NoConsensus, consensus, pairs_of_ranking
from cai.dataset.preferences import pair_key, prompt_id
from cai.types import conversation

Row = dict[str, Any]
Record = Mapping[str, Any]
Key = tuple[str, str, str]

_LETTERS = "ABCDEFGHI"
_THUMBS = {"up": 1.0, "down": 0.0}


class Unusable(NamedTuple):
    """Feedback that gives no row, and why: a reason in kebab-case and a sentence."""

    id: str
    reason: str
    detail: str


def rows_of_feedback(records: Iterable[Record]) -> Iterator[Row | NoConsensus | Unusable]:
    """Rows with `source: human`, one per pair of answers, and what gives none.

    Records have `id`, `messages`, `response` and any of `better`, `rating`, `thumbs`,
    `user_digest`, `policy_id` and `arm`. Where kinds differ on a pair, a better answer counts most
    and thumbs least; the last word of one user on one answer counts. Holds all records.
    """
    prompts: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        prompts[prompt_id(conversation(record["messages"]))].append(record)
    for said in prompts.values():
        try:
            yield from _of_prompt(said)
        except UnusableRow as exc:  # the prompt itself
            yield from (Unusable(one["id"], exc.reason, exc.detail) for one in said)


def _of_prompt(said: list[Record]) -> Iterator[Row | NoConsensus | Unusable]:
    whole = [one for one in said if one["response"].strip()]
    yield from (
        Unusable(one["id"], "empty-answer", "the answer that was judged is empty")
        for one in said
        if not one["response"].strip()
    )
    known: set[Key] = set()
    for one in (*_corrections(whole), *_compared(whole, "rating"), *_compared(whole, "thumbs")):
        if not isinstance(one, dict):
            yield one
        elif (key := pair_key(one)) not in known:
            known.add(key)
            yield one
    if not known:
        detail = "no other answer to the same prompt was judged otherwise"
        alone = (one["id"] for one in whole if one.get("better") is None)
        yield from (Unusable(id, "nothing-to-compare", detail) for id in alone)


def _corrections(said: list[Record]) -> Iterator[Row | NoConsensus | Unusable]:
    rows: list[Row] = []
    for one in said:
        better = one.get("better")
        if better is None:
            continue
        if better.strip() in ("", one["response"].strip()):
            yield Unusable(one["id"], "same-answers", "the better answer is empty or the same")
            continue
        rows += _ranked([one], [one["response"], better], "B > A", "better")
    yield from consensus(rows)


def _compared(said: list[Record], kind: str) -> Iterator[Row]:
    """Pairs of the answers that got different marks of this kind, on average over users."""
    marks: dict[str, dict[str, float]] = defaultdict(dict)
    for one in said:
        if one.get(kind) is not None:
            mark = _THUMBS[one[kind]] if kind == "thumbs" else float(one[kind])
            marks[one["response"]][one.get("user_digest") or one["id"]] = mark
    means = {text: fmean(users.values()) for text, users in list(marks.items())[-MAX_OUTPUTS:]}
    if len(set(means.values())) < 2:
        return
    judged = [one for one in said if one.get(kind) is not None and one["response"] in means]
    yield from _ranked(judged, list(means), _ranking(list(means.values())), kind)


def _ranking(means: list[float]) -> str:
    """`B > A = C`, best first."""
    tiers = [
        " = ".join(_LETTERS[index] for index, mean in enumerate(means) if mean == value)
        for value in sorted(set(means), reverse=True)
    ]
    return " > ".join(tiers)


def _ranked(said: list[Record], outputs: list[str], ranking: str, kind: str) -> list[Row]:
    """Rows of a ranking, each with the feedback that it comes from."""
    users = {one.get("user_digest") for one in said}
    record = {"prompt": said[0]["messages"], "outputs": outputs, "ranking": ranking}
    rows = pairs_of_ranking({**record, "labeler": users.pop() if len(users) == 1 else None})
    for row in rows:
        texts = {row["chosen"][-1]["content"], row["rejected"][-1]["content"]}
        of_pair = [one for one in said if one["response"] in texts]
        row["origin"] = {
            "format": "feedback",
            "kind": kind,
            "ids": [one["id"] for one in of_pair],
            "policies": sorted({one["policy_id"] for one in of_pair if one.get("policy_id")}),
        }
    return rows
