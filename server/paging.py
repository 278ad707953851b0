"""Cursor paging of lists: `limit` and `after`, in OpenAI's form with `has_more`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from cai.errors import InputError
from cai.registry import did_you_mean

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000

PARAMETERS = {
    "limit": f"At most so many entries, 1 to {_MAX_LIMIT}; {_DEFAULT_LIMIT} when left out.",
    "after": "The id of the last entry of the page before.",
}


def page(request: Request, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The page of `items`, each with an `id`, that the request's query asks for."""
    query = request.query_params
    for name in query:
        if name not in PARAMETERS:
            raise InputError(
                f"unknown parameter '{name[:60]}'{did_you_mean(name[:60], PARAMETERS)}; "
                f"there are: {', '.join(PARAMETERS)}",
                param=name[:60],
            )
    limit = _limit(query.get("limit"))
    start = _start(query.get("after"), items)
    shown = items[start : start + limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + limit < len(items),
    }


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_LIMIT:
        return int(text[:9])
    raise InputError(
        f"limit: {text[:20]!r} is not a whole number from 1 to {_MAX_LIMIT}", param="limit"
    )


def _start(after: str | None, items: Sequence[dict[str, Any]]) -> int:
    if after is None:
        return 0
    for index, item in enumerate(items):
        if item["id"] == after:
            return index + 1
    raise InputError(
        f"after: there is no entry {after[:100]!r}; begin again without it", param="after"
    )
