"""If-Match, If-None-Match and ETag: a client replaces only what it has seen.

Start from `if_match` for changes and `etag` for answers. Tags are compared as strong ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.requests import Request

from server.context import request_info
from server.errors import HttpError

_TAGS = re.compile(
    r'\s*(?:\*|(?:W/)?"[^"\x00-\x20\x7f]*"(?:\s*,\s*(?:W/)?"[^"\x00-\x20\x7f]*")*)\s*'
)


def etag(tag: str) -> dict[str, str]:
    """The header of an answer that shows the state `tag`."""
    return {"etag": f'"{tag}"'}


def if_match(request: Request, *, required: bool) -> Callable[[str | None], None]:
    """A check of the tag of what is there now (None: nothing), as the request's headers ask.

    It raises HttpError 412 when the state is another, and 428 when `required`, something is there
    and the request does not say what it has seen. A malformed header is a 400 at once.
    """
    wanted, unwanted = _tags(request, "if-match"), _tags(request, "if-none-match")

    def check(now: str | None) -> None:
        if wanted is not None and (now is None or ("*" not in wanted and now not in wanted)):
            raise _changed(now)
        if unwanted is not None and now is not None and ("*" in unwanted or now in unwanted):
            raise _changed(now)
        if required and now is not None and wanted is None:
            raise HttpError(
                428,
                "say which state this replaces: send its ETag, from a GET, as If-Match",
                code="precondition_required",
                param="If-Match",
                headers=etag(now),
            )

    return check


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether the client has this state already: the answer to its GET is a 304."""
    known = _tags(request, "if-none-match")
    return known is not None and ("*" in known or tag in known)


def _tags(request: Request, header: str) -> frozenset[str] | None:
    """The strong tags of a header, without their quotes; None when it was not sent."""
    raw = request_info(request).headers.get(header.encode())
    if raw is None:
        return None
    text = raw.decode("latin-1")
    if not _TAGS.fullmatch(text):
        raise HttpError(
            400,
            f'{header} is no list of quoted tags, as in "abc"',
            code="invalid_value",
            param=header,
        )
    if text.strip() == "*":
        return frozenset("*")
    return frozenset(re.findall(r'(?<!W/)"([^"]*)"', text))


def _changed(now: str | None) -> HttpError:
    message = (
        "there is nothing there any more"
        if now is None
        else "it was changed by someone else; get it again, and make your change to that"
    )
    return HttpError(
        412, message, code="precondition_failed", headers={} if now is None else etag(now)
    )
