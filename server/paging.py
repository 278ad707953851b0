"""Cursor paging of lists: `limit` and `after`, in OpenAI's form with `has_more`.

Start from `page` for entries in memory, `cursor` and `listed` for those of a database.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from cai.errors import InputError
from cai.registry import did_you_mean

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000

PARAMETERS = {
    "limit": f"At most so many entries, 1 to {_MAX_LIMIT}; {_DEFAULT_LIMIT} when left out.",
    "after": "The id of the last entry of the page before.",
}


class Cursor(NamedTuple):
    """The page that a request asks for: so many entries, after the one with this id."""

    limit: int
    after: str | None


def page(request: Request, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The page of `items`, each with an `id`, that the request's query asks for."""
    limit, after = cursor(request)
    start = _start(after, items)
    return listed(items[start : start + limit], has_more=start + limit < len(items))


def cursor(request: Request, *filters: str) -> Cursor:
    """What the query asks for; beside paging it may name `filters`, for the caller to read."""
    query = request.query_params
    check_query(request, (*PARAMETERS, *filters))
    return Cursor(_limit(query.get("limit")), query.get("after"))


def check_query(request: Request, known: Collection[str]) -> None:
    """Raise InputError for a parameter after the question mark that is none of `known`."""
    for name in request.query_params:
        if name not in known:
            raise InputError(
                f"unknown parameter '{name[:60]}'{did_you_mean(name[:60], known)}; "
                f"there are: {', '.join(known)}",
                param=name[:60],
            )


def listed(shown: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page in OpenAI's form."""
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": has_more,
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
