"""How a request that costs is run: within bounds, while the client is there, once per key.

Start from `read_body` and `perform`. Streams take the same road in `server.streaming`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from server.context import request_info
from server.deps import services
from server.errors import ClientGoneError, HttpError
from server.limits import deadline
from server.validation import parse_json, validate

_PATIENCE = 8  # times the largest body, read before the connection is cut

_Model = TypeVar("_Model", bound=BaseModel)
_T = TypeVar("_T")


async def read(request: Request, model: type[_Model]) -> _Model:
    """The body as a record of `model`; what is wrong with it is an error that names the field."""
    return validate(model, parse_json(await read_body(request)))


async def read_or_default(request: Request, model: type[_Model]) -> _Model:
    """As `read`, for calls that need no body: without one the record has its defaults."""
    headers = request_info(request).headers
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        request.state.raw_body = b""
        return model()
    return await read(request, model)


async def read_body(request: Request) -> bytes:
    """The raw body, kept on the request. Raises HttpError 408, 413 or 415.

    A body that is somewhat too large is read to its end and thrown away: a client that is still
    sending would see a broken connection instead of the answer.
    """
    settings = services(request).settings
    _check_headers(request, settings.max_body_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part = message.get("body", b"")
                size += len(part)
                if size <= settings.max_body_bytes:
                    parts.append(part)
                elif size > _PATIENCE * settings.max_body_bytes:
                    raise _too_large(settings.max_body_bytes)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise HttpError(
            408,
            f"the body did not arrive within body_timeout_s ({settings.body_timeout_s:g} s)",
            code="body_timeout",
        ) from None
    if size > settings.max_body_bytes:
        raise _too_large(settings.max_body_bytes)
    body = b"".join(parts)
    request.state.raw_body = body
    return body


async def perform(
    request: Request, work: Callable[[], Awaitable[Response]], *, in_queue: bool = True
) -> Response:
    """The response of `work`, aborted when the client leaves.

    `in_queue` False is for what needs no engine and so does not wait for one. Raises
    OverloadedError or EngineTimeoutError at the limits, ClientGoneError when it left.
    """
    service = services(request)

    async def limited() -> Response:
        place = service.admission.slot() if in_queue else nullcontext()
        async with deadline(service.settings.request_timeout_s), place:
            return await work()

    keyed = idempotency(request)
    if keyed is None:
        return await while_connected(request.receive, limited())
    once = service.idempotency.once(keyed.key, keyed.digest, limited)
    return await while_connected(request.receive, once)


class Keyed(NamedTuple):
    """A request's place in the idempotency store: its caller's key, and its body's digest."""

    key: str
    digest: str


def idempotency(request: Request) -> Keyed | None:
    """Where the request has an `Idempotency-Key`: caller, path and key; and the body's digest."""
    given = request_info(request).headers.get(b"idempotency-key")
    if given is None:
        return None
    key = given.decode("latin-1")
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise HttpError(
            400,
            "an Idempotency-Key has 1 to 255 printable ASCII characters",
            code="invalid_value",
            param="Idempotency-Key",
        )
    caller = request_info(request).key_name or ""
    digest = hashlib.sha256(request.state.raw_body).hexdigest()
    return Keyed("\n".join((caller, request.url.path, key)), digest)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled when the client leaves first.

    Raises ClientGoneError then. The work runs in the caller's task: a second one would cost as
    much as the rest of the way.
    """
    task = asyncio.current_task()
    assert task is not None, "handlers run in tasks"
    is_gone = False

    def abort(_watching: asyncio.Future[None]) -> None:
        nonlocal is_gone
        is_gone = True
        task.cancel()

    watching = asyncio.ensure_future(_disconnect(receive))
    watching.add_done_callback(abort)
    try:
        return await work
    except asyncio.CancelledError:
        if is_gone and task.uncancel() == 0:
            raise ClientGoneError from None
        raise
    finally:
        watching.remove_done_callback(abort)
        watching.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_headers(request: Request, max_bytes: int) -> None:
    headers = request_info(request).headers
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise HttpError(
            415, "send the body as content-type: application/json", code="unsupported_media_type"
        )
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HttpError(
            415, "compressed bodies are not taken; send it plain", code="unsupported_media_type"
        )
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > _PATIENCE * max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(
        413,
        f"the body has more than {max_bytes} bytes (max_body_bytes)",
        code="body_too_large",
        headers={"connection": "close"},
    )
