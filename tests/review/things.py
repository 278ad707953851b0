"""Items for the tests of reviews: pairs of short answers with a judge's opinion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai.review.queue import ReviewQueue
from cai.review.records import (
    Decision,
    Given,
    ItemDraft,
    Opinion,
    Reviewed,
    ReviewItem,
    draft_pair,
    is_swapped,
)

ASK = [{"role": "user", "content": "Is the fence green?"}]


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def pair(number: int = 0, p_a: float | None = 0.9, **more: Any) -> ItemDraft:
    """A pair whose side a is the good answer, whichever place it has; `p_a` is of that one."""
    said = () if p_a is None else (Opinion(by="judge", kind="judge", p_a=p_a),)
    answers = (turns(f"good {number}"), turns(f"bad {number}"))
    return draft_pair(
        [{"role": "user", "content": f"question {number}?"}],
        answers,
        **{"policies": ("new", "old"), "opinions": said, **more},
    )


def single(text: str, policy: str | None = "new") -> ItemDraft:
    return ItemDraft(kind="rating", prompt=ASK, answers=(turns(text),), policies=(policy,))


def choice_for(queue: ReviewQueue, rater: str, wanted: str = "good") -> str | None:
    """What a rater who wants answers that begin so says of their next item; its id."""
    shown = queue.next(rater)
    if shown is None:
        return None
    first = shown.answers[0][0]["content"].startswith(wanted)
    queue.decide(shown.id, rater, Given(choice="a" if first else "b"))
    return shown.id


def reviewed(
    draft: ItemDraft, votes: dict[str, str], *, is_random: bool = False, ratings: Sequence[int] = ()
) -> Reviewed:
    """An item with votes for `good`, `bad`, tie or skip by rater, or with ratings by r0, r1 …"""
    item = ReviewItem(
        **draft.model_dump(),
        id=draft.id,
        seq=1,
        at="2026-01-01",
        actor="me",
        source="file",
        p_a=next((one.p_a for one in draft.opinions if one.kind == "judge"), None),
        priority=1.0,
        is_random=is_random,
        target=2,
        num_decided=0,
    )
    good = "a" if item.answers[0][0]["content"].startswith("good") else "b"
    words = {"good": good, "bad": "b" if good == "a" else "a"}
    given = [(rater, words.get(vote, vote), None) for rater, vote in votes.items()]
    given += [(f"r{index}", "rating", rating) for index, rating in enumerate(ratings)]
    decisions = [
        Decision(
            id=f"rd-{rater}", item_id=item.id, rater=rater, at="2026-01-01", choice=choice,
            rating=rating, is_swapped=draft.kind == "pair" and is_swapped(item.id, rater),
        )
        for rater, choice, rating in given
    ]  # fmt: skip
    return Reviewed(item, tuple(decisions))
