"""Bodies of the calls that change constitutions, and how a constitution is shown."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from cai.constitution.schema import Constitution
from server.schemas.common import WireModel
from server.validation import refused


class DraftUpdate(WireModel):
    """A draft, whole: its YAML as text, or its content as JSON, which keeps the file's comments."""

    text: str | None = None
    constitution: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_one(self) -> DraftUpdate:
        if (self.text is None) == (self.constitution is None):
            raise refused("text", "give either 'text' (YAML) or 'constitution' (JSON)")
        return self


class ReleaseCreate(WireModel):
    """Nothing needs to be said: the draft becomes the next number."""


def constitution_json(constitution: Constitution) -> dict[str, Any]:
    """A constitution as it is shown, with what it extends written out."""
    return {
        "id": constitution.ref,
        "object": "constitution",
        "ref": constitution.ref,
        "digest": constitution.digest,
        **constitution.model_dump(mode="json", exclude_none=True, exclude={"format"}),
    }
