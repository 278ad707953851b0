"""Human evaluation: what is put into the queue, and what a rater says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from cai.review.records import MAX_COMMENT_CHARS, MAX_TARGET, Decision, Shown, as_shown
from server.schemas.common import Name, Text, WireModel

Comment = Annotated[Text, Field(max_length=MAX_COMMENT_CHARS)]


class ReviewImport(WireModel):
    """A file whose pairs or single answers people are to look at."""

    file: Name = Field(description="Id of an uploaded file, or of a run's rows: toy.rows.jsonl.")
    kind: Literal["pair", "rating"] = Field(
        "pair", description="Compare two answers, or rate each from 1 to 5."
    )
    target: Annotated[int, Field(ge=1, le=MAX_TARGET)] = Field(
        1, description="Raters wanted for each item."
    )
    random_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Share drawn without regard to any opinion."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Decides that draw.")


class DecisionCreate(WireModel):
    """What a rater says of the item before them."""

    choice: Literal["a", "b", "tie", "skip"] | None = Field(
        None, description="Of a pair, by the sides as they were shown; skip goes for all."
    )
    rating: Annotated[int, Field(ge=1, le=5)] | None = Field(
        None, description="Of a single answer: 1 worst, 5 best."
    )
    comment: Comment | None = None
    rater: Name | None = Field(None, description="Who of those that share a key; as with next.")


def shown_json(shown: Shown) -> dict[str, Any]:
    """All that a rater is told of an item."""
    sides = ("a", "b") if shown.kind == "pair" else (None,)
    return {
        "object": "review.item",
        "id": shown.id,
        "kind": shown.kind,
        "prompt": shown.prompt,
        "answers": [
            {**({} if side is None else {"side": side}), "turns": turns}
            for side, turns in zip(sides, shown.answers, strict=True)
        ],
        "lease_ends_at": int(shown.until),
    }


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision as its rater made it: by the sides as they were shown."""
    told = decision.model_dump(exclude={"is_swapped"}, exclude_none=True)
    return {
        "object": "review.decision",
        **told,
        "choice": as_shown(decision.choice, decision.is_swapped),
    }
