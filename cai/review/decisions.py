"""What was decided, as data: human preference rows that a dataset can be merged with.

A choice between a and b gives one row per rater, so that merging comes to its own consensus;
ratings of several answers to one prompt give pairs. Ties and skips give none. Start from
`human_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cai.dataset.feedback import Unusable, rows_of_feedback
from cai.dataset.human import NoConsensus
from cai.dataset.preferences import preference_row
from cai.review.records import Decision, Reviewed, ReviewItem
from cai.types import conversation

Row = dict[str, Any]


def human_rows(reviewed: Iterable[Reviewed]) -> Iterator[Row | NoConsensus | Unusable]:
    """Rows with `source: human`, in the order of the items; those of ratings come last.

    What gives none is told, with the item's id. Holds the ratings only.
    """
    ratings: list[dict[str, Any]] = []
    for item, decisions in reviewed:
        for decision in decisions:
            if decision.choice in ("a", "b"):
                yield _row(item, decision)
            elif decision.choice == "rating":
                ratings.append(_rated(item, decision))
            else:
                yield Unusable(item.id, decision.choice, f"{decision.rater} chose no side")
    yield from rows_of_feedback(ratings)


def _row(item: ReviewItem, decision: Decision) -> Row:
    first, second = item.answers
    chosen, rejected = (first, second) if decision.choice == "a" else (second, first)
    return preference_row(
        prompt=conversation(item.prompt),
        chosen=conversation(chosen),
        rejected=conversation(rejected),
        p_chosen=1.0,
        source="human",
        input_id=item.origin.get("input_id"),
        labeler=decision.rater,
        origin={
            "format": "review",
            "item": item.id,
            "is_random": item.is_random,
            "at": decision.at,
            **({"comment": decision.comment} if decision.comment else {}),
        },
    )


def _rated(item: ReviewItem, decision: Decision) -> dict[str, Any]:
    """A rating as feedback: single answers that people judged are the same thing."""
    return {
        "id": item.id,
        "messages": item.prompt,
        "response": item.answers[0][-1]["content"],
        "rating": decision.rating,
        "user_digest": decision.rater,
        "policy_id": item.policies[0],
    }
