"""What a review is made of: items, opinions that were there before, decisions of raters.

An item's sides `a` and `b` are its own, in the order of their digests, so that the place says
nothing of who is better; which one a rater sees first is drawn by `is_swapped`. Light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai.files import digest_json

Kind = Literal["pair", "rating"]
Choice = Literal["a", "b", "tie", "rating", "skip"]
Turns = list[dict[str, str]]

SHARES = {"a": 1.0, "b": 0.0, "tie": 0.5}
"""What a choice says as a probability that a wins."""

MAX_COMMENT_CHARS = 2000
MAX_TARGET = 16

_SWAPPED: dict[str, Choice] = {"a": "b", "b": "a"}
_MAX_INT = float(1 << 64)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Opinion(_Record):
    """What a judge, one principle of it or an earlier labeler said: the probability that a wins.

    Of a single answer it is the probability that the answer is as it should be.
    """

    by: str
    kind: Literal["judge", "principle", "human"]
    p_a: float = Field(ge=0, le=1)


class _Item(_Record):
    kind: Kind
    prompt: Turns
    answers: tuple[Turns, ...]
    """Of a pair: side a, then side b."""
    policies: tuple[str | None, ...]
    """Who gave each answer, where it is known; raters are not told."""
    opinions: tuple[Opinion, ...] = ()
    origin: dict[str, Any] = {}


class Told(_Record):
    """What a rater decided in another queue; `choice` is of the item's own sides."""

    rater: str = Field(min_length=1, max_length=128)
    at: str = Field(max_length=40)
    choice: Choice
    rating: int | None = Field(default=None, ge=1, le=5)
    comment: str | None = Field(default=None, max_length=MAX_COMMENT_CHARS)
    is_swapped: bool = False

    @model_validator(mode="after")
    def _rates(self) -> Told:
        if (self.choice == "rating") != (self.rating is not None):
            raise ValueError("'rating' belongs to the choice 'rating'")
        return self

    def turned(self) -> Told:
        """The same of the sides the other way round."""
        told = {"choice": as_shown(self.choice, True), "is_swapped": not self.is_swapped}
        return self.model_copy(update=told)


class ItemDraft(_Item):
    """Something to ask people about: two answers to compare, or one to rate from 1 to 5."""

    decisions: tuple[Told, ...] = Field(default=(), exclude=True)
    """Made in another queue, where the item comes from one."""
    is_random: bool | None = Field(default=None, exclude=True)
    """Whether it was of the random share there; else this is drawn."""

    @model_validator(mode="after")
    def _decides_its_kind(self) -> ItemDraft:
        for one in self.decisions:
            if one.choice != "skip" and (one.choice == "rating") != (self.kind == "rating"):
                raise ValueError(f"'{one.choice}' cannot be said of a {self.kind}")
        return self

    def as_opinions(self) -> ItemDraft:
        """The item with its decisions as what others said of it, and as one of no share."""
        known = {(one.kind, one.by) for one in self.opinions}
        said = [
            Opinion(by=one.rater, kind="human", p_a=SHARES[one.choice])
            for one in self.decisions
            if one.choice in SHARES and ("human", one.rater) not in known
        ]
        changed = {"opinions": (*self.opinions, *said), "decisions": (), "is_random": None}
        return self.model_copy(update=changed)

    @property
    def id(self) -> str:
        """The same for the same content, whoever imports it."""
        content = [self.kind, self.prompt, list(self.answers)]
        return "rv-" + digest_json(content).removeprefix("sha256:")[:24]


class ReviewItem(_Item):
    """An item of the queue."""

    id: str
    seq: int
    at: str
    actor: str
    source: str
    p_a: float | None
    """The judges' mean probability that a is better; None without a judge."""
    priority: float
    is_random: bool
    """Whether it belongs to the share that was drawn without regard to any opinion."""
    target: int
    """Raters that are wanted; one who skips does not count."""
    num_decided: int


class Given(_Record):
    """What a rater says of the item before them; `choice` is of the sides as they were shown."""

    choice: Choice | None = None
    rating: int | None = Field(default=None, ge=1, le=5)
    """Of a single answer: 1 is worst, 5 is best."""
    comment: str | None = Field(default=None, max_length=MAX_COMMENT_CHARS)

    @model_validator(mode="before")
    @classmethod
    def _rating_is_a_choice(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("rating") is not None:
            return {**value, "choice": value.get("choice") or "rating"}
        return value


class Decision(_Record):
    """A rater's answer; `choice` is of the item's own sides."""

    id: str
    item_id: str
    rater: str
    at: str
    choice: Choice
    rating: int | None = None
    comment: str | None = None
    is_swapped: bool
    """Whether side b was shown first."""


class Reviewed(NamedTuple):
    """An item with everything that was decided of it, in order."""

    item: ReviewItem
    decisions: tuple[Decision, ...]

    @property
    def votes(self) -> dict[str, Choice]:
        """The raters' choices among a, b and tie."""
        return {one.rater: one.choice for one in self.decisions if one.choice in ("a", "b", "tie")}


class Shown(NamedTuple):
    """All that a rater sees of an item: neither who answered, nor what anybody thinks of it."""

    id: str
    kind: Kind
    prompt: Turns
    answers: tuple[Turns, ...]
    until: float
    """When the lease ends, in seconds since 1970."""


def draft_pair(
    prompt: Turns,
    answers: Sequence[Turns],
    *,
    policies: Sequence[str | None] = (None, None),
    opinions: Iterable[Opinion] = (),
    origin: dict[str, Any] | None = None,
    decisions: Iterable[Told] = (),
    is_random: bool | None = None,
) -> ItemDraft:
    """A pair with its sides put in order; what is said of sides is of `answers` as given."""
    turned = digest_json(answers[0]) > digest_json(answers[1])
    step = -1 if turned else 1
    return ItemDraft(
        kind="pair",
        prompt=prompt,
        answers=tuple(answers[::step]),
        policies=tuple(policies[::step]),
        opinions=tuple(one.model_copy(update={"p_a": 1 - one.p_a}) for one in opinions)
        if turned
        else tuple(opinions),
        origin=origin or {},
        decisions=tuple(one.turned() for one in decisions) if turned else tuple(decisions),
        is_random=is_random,
    )


def judged(opinions: Iterable[Opinion]) -> float | None:
    """The judges' mean probability that a is better; None where no judge said anything."""
    found = [one.p_a for one in opinions if one.kind == "judge"]
    return math.fsum(found) / len(found) if found else None


def priority(opinions: Sequence[Opinion], votes: Iterable[Choice] = ()) -> float:
    """How much there is to learn, 0 to 2: the judges' uncertainty plus the disagreement of all.

    Uncertainty is 1 - 2|p - 0.5|, and 1 without a judge; disagreement is the share of two opinions
    or votes, drawn from all, that are on different sides.

    >>> two = [Opinion(by=name, kind="judge", p_a=p) for name, p in (("x", 0.9), ("y", 0.3))]
    >>> round(priority(two), 3)
    1.8
    """
    p_a = judged(opinions)
    uncertainty = 1.0 if p_a is None else 1 - 2 * abs(p_a - 0.5)
    sides = [one.p_a > 0.5 for one in opinions if one.p_a != 0.5]
    sides += [vote == "a" for vote in votes if vote in ("a", "b")]
    both = len(sides) * (len(sides) - 1) / 2
    split = sum(sides) * (len(sides) - sum(sides))
    return uncertainty + (split / both if both else 0.0)


def is_swapped(item_id: str, rater: str) -> bool:
    """Whether a rater sees side b first: drawn by a hash, so the same whenever they look."""
    return hashed("side", item_id, rater) < 0.5


def as_shown(choice: Choice, swapped: bool) -> Choice:
    """A choice in the other's terms: of the sides as shown, or of the item's own."""
    return _SWAPPED.get(choice, choice) if swapped else choice


def hashed(*parts: object) -> float:
    """A number from 0 up to 1, by a hash of the parts."""
    digest = digest_json([str(part) for part in parts]).removeprefix("sha256:")
    return int(digest[:16], 16) / _MAX_INT
