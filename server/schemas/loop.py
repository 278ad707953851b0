"""`POST /v1/critiques` and `POST /v1/revisions`: the requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.schemas.common import (
    MAX_TOKENS,
    ConstitutionRef,
    Messages,
    ModelName,
    PrincipleNames,
    SamplingIn,
    Text,
)


class _LoopIn(SamplingIn):
    model: ModelName | None = Field(None, description="`live` (the default) or a served policy.")
    messages: Messages
    constitution: ConstitutionRef
    principles: PrincipleNames | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = Field(
        None, description="For each text that is written; 512 when left out."
    )


class CritiqueRequest(_LoopIn):
    """Critique `response` to `messages`, once per principle: those named, or all."""

    response: Annotated[Text, Field(min_length=1)]


class RevisionRequest(_LoopIn):
    """Answer `messages`, then critique and revise the answer. `principles` are taken in turn."""

    revisions: Annotated[int, Field(ge=0, le=16)] = 1
