"""What people said of answers: thumbs, a rating from 1 to 5, a better answer; kept as it came.

Each is bound to the conversation and answer, the policy and arm that gave it, and a digest of the
user's tag. `cai/dataset/feedback.py` makes preference rows of it. Start from `FeedbackStore`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import ColumnElement, case, func, insert, select

from cai.db import Database
from cai.files import digest_bytes
from cai.policy.registry_rows import time_now
from cai.tables import feedback

_BATCH = 500


class Feedback(BaseModel):
    """One judgement of one answer. At least one of thumbs, rating and better is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[dict[str, str]]
    """The conversation that was answered, in OpenAI's form."""
    response: str
    thumbs: Literal["up", "down"] | None = None
    rating: int | None = Field(default=None, ge=1, le=5)
    """1 is worst, 5 is best."""
    better: str | None = None
    """What the answer should have been."""
    policy_id: str | None = None
    arm: str | None = None
    """The arm of the A/B split, where there was one."""
    user_digest: str | None = None
    actor: str | None = None
    """Name of the key that sent it."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.thumbs is None and self.rating is None and self.better is None:
            raise ValueError("needs thumbs, a rating or a better answer")
        return self


class StoredFeedback(Feedback):
    """Feedback with its place: `seq` grows with time."""

    seq: int
    id: str
    at: str


class ArmResult(BaseModel):
    """What people said of one arm or policy. `mean_rating` is None where nobody rated."""

    model_config = ConfigDict(frozen=True)

    num: int
    num_up: int
    num_down: int
    num_rated: int
    mean_rating: float | None
    num_better: int


class FeedbackStore:
    """All feedback, in the order in which it came. Calls block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, given: Feedback) -> StoredFeedback:
        """Keep one."""
        id, at = f"fb-{secrets.token_hex(12)}", time_now()
        with self._database.begin() as connection:
            values = {**given.model_dump(), "id": id, "at": at}
            key = connection.execute(insert(feedback).values(values)).inserted_primary_key
        assert key is not None, "a line has its number"
        return StoredFeedback(**given.model_dump(), seq=key[0], id=id, at=at)

    def last_seq(self) -> int:
        """The place of the newest, 0 when there is none: a point up to which to read."""
        with self._database.read() as connection:
            return connection.scalar(select(func.max(feedback.c.seq))) or 0

    def records(self, *, after: int = 0, up_to: int | None = None) -> Iterator[StoredFeedback]:
        """All with a `seq` above `after` and not above `up_to`, in order, some at a time."""
        end = self.last_seq() if up_to is None else up_to
        while after < end:
            place = feedback.c.seq
            query = select(feedback).where(place > after, place <= end).order_by(place)
            with self._database.read() as connection:
                found = connection.execute(query.limit(_BATCH)).mappings().all()
            yield from (StoredFeedback.model_validate(dict(row)) for row in found)
            if len(found) < _BATCH:
                return
            after = found[-1]["seq"]

    def results(
        self, by: Literal["arm", "policy_id"], *, since: str | None = None
    ) -> dict[str, ArmResult]:
        """What people said, by arm or by policy, from a time on; what names none is left out."""
        group = feedback.c[by]
        query = (
            select(
                group.label("group"),
                func.count().label("num"),
                _count(feedback.c.thumbs == "up").label("num_up"),
                _count(feedback.c.thumbs == "down").label("num_down"),
                func.count(feedback.c.rating).label("num_rated"),
                func.avg(feedback.c.rating).label("mean_rating"),
                func.count(feedback.c.better).label("num_better"),
            )
            .where(group.is_not(None), *(() if since is None else (feedback.c.at >= since,)))
            .group_by(group)
            .order_by(group)
        )
        with self._database.read() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        return {row.pop("group"): ArmResult.model_validate(row) for row in found}


def user_digest(user: str | None) -> str | None:
    """What is kept of a user's tag: names of people stay out of the database."""
    return None if user is None else digest_bytes(user.encode("utf-8", "surrogatepass"))


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.count(case((condition, 1)))
