"""Policies, the A/B split and feedback: what is sent, and what is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cai.policy.records import Lineage, PolicyEvent, PolicyRecord
from server.schemas.common import Messages, ModelName, Name, Text, UserTag, WireModel
from server.validation import refused

Percent = Annotated[float, Field(gt=0, le=100)]


class TrafficUpdate(WireModel):
    """The share of `live` traffic in percent by policy id; the rest goes to the live policy."""

    split: dict[Name, Percent]


class PolicyChange(WireModel):
    """Why a policy is promoted or rolled back; kept with the event."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


class FeedbackCreate(WireModel):
    """What a person said of an answer: thumbs, a rating, a better answer, or several of these."""

    messages: Messages
    response: Text
    thumbs: Literal["up", "down"] | None = None
    rating: Annotated[int, Field(ge=1, le=5)] | None = Field(None, description="1 worst, 5 best.")
    better: Text | None = Field(None, description="What the answer should have been.")
    policy: ModelName | None = Field(
        None, description="Who gave the answer: its header x-cai-policy."
    )
    arm: Name | None = Field(None, description="The arm of the A/B split that it came from.")
    user: UserTag | None = Field(None, description="Kept as a digest.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.thumbs is None and self.rating is None and self.better is None:
            raise refused("thumbs", "say what of it: thumbs, rating or better, at least one")
        if self.better is not None and not self.better.strip():
            raise refused("better", "the better answer is empty; leave it out")
        if self.better is not None and self.better.strip() == self.response.strip():
            raise refused("better", "the better answer is the answer itself; leave it out")
        return self


def policy_json(record: PolicyRecord) -> dict[str, Any]:
    """A policy as it is listed. The server's folders are its own: one outside home is not told."""
    told = record.model_dump(mode="json")
    if record.folder.startswith("/"):
        del told["folder"]
    return {"object": "policy", **told}


def policy_details(
    record: PolicyRecord, events: tuple[PolicyEvent, ...], lineage: Lineage
) -> dict[str, Any]:
    """A policy with all that became of it, oldest first, and where it comes from."""
    return {
        **policy_json(record),
        "events": [one.model_dump(mode="json", exclude={"policy_id"}) for one in events],
        "lineage": lineage.model_dump(mode="json"),
    }
