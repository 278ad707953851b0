"""`POST /v1/preferences`: the request."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cai.feedback.ranking import MAX_ANSWERS, MIN_ANSWERS
from server.schemas.common import ConstitutionRef, Messages, PrincipleNames, Text, WireModel


class PreferenceRequest(WireModel):
    """Rank `responses` to `messages` by a constitution, or by the principles named."""

    messages: Messages
    responses: Annotated[
        list[Text], Field(min_length=MIN_ANSWERS, max_length=MAX_ANSWERS, fail_fast=True)
    ]
    constitution: ConstitutionRef
    principles: PrincipleNames | None = Field(
        None, description="Ids to ask under; without them the constitution's composition decides."
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = Field(
        None, description="Decides the draw of principles; equal requests draw equally."
    )
