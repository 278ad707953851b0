"""JSON of our own schema: what `cai constitution show --json` prints, with what it extends inside.

A digest that stands in the file must be that of its content.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from cai.constitution.schema import Constitution
from cai.errors import ConstitutionError


def is_form(value: Any) -> bool:
    """Whether a JSON value looks like one of ours."""
    return isinstance(value, dict) and {"name", "title", "principles"} <= value.keys()


def read(value: dict[str, Any]) -> dict[str, Any]:
    """The content without name and version. Raises ConstitutionError when it is not valid."""
    left_out = ("ref", "digest", "extends")
    content = {"version": "draft"} | {key: one for key, one in value.items() if key not in left_out}
    try:
        constitution = Constitution.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConstitutionError(f"{where}: {first['msg'][:200]}") from None
    if value.get("digest", constitution.digest) != constitution.digest:
        raise ConstitutionError(
            f"says that its digest is {value['digest']!r:.90}, but its content has "
            f"{constitution.digest}; it was edited: delete 'digest' if that was meant"
        )
    return constitution.model_dump(
        mode="json", exclude_defaults=True, exclude={"name", "version", "format"}
    )


def write(constitution: Constitution) -> str:
    """Reference, digest and content as JSON."""
    content = constitution.model_dump(mode="json", exclude_none=True, exclude={"extends"})
    whole = {"ref": constitution.ref, "digest": constitution.digest, **content}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
