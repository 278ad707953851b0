"""Server-sent events under the same limits as everything else: queue, deadline, disconnect.

The status waits for the first event, so that what fails before it is an ordinary error; what
fails later is an event `error`. Start from `EventStream`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cai.errors import CaiError
from server.deps import services
from server.errors import HttpError, classify
from server.limits import deadline
from server.work import Keyed, idempotency, while_connected

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_HEADERS = {"x-accel-buffering": "no"}

Events = AsyncGenerator[bytes, None]


def event(value: Any, *, name: str | None = None, id: int | None = None) -> bytes:
    """One server-sent event with `value` as JSON; a client that comes back names the last `id`."""
    head = b"" if id is None else f"id: {id}\n".encode()
    head += b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + to_json(value) + b"\n\n"


def stream(request: Request, events: Events, headers: Mapping[str, str]) -> Response:
    """The streamed response, or the kept one where the request's Idempotency-Key has one.

    `headers` is read when the first event is there: only then it is known who answers.
    """
    store = services(request).idempotency
    keyed = idempotency(request)
    if keyed is not None:
        kept = store.find(keyed.key, keyed.digest)
        if kept is not None:
            return kept
        store.begin_stream(keyed.key, keyed.digest)
    return EventStream(request, events, headers, keyed)


class EventStream(Response):
    """A response that sends events as they come."""

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        events: Events,
        headers: Mapping[str, str],
        keyed: Keyed | None,
    ) -> None:
        super().__init__()
        self._request = request
        self._events = events
        self._late_headers = headers
        self._keyed = keyed
        self._is_started = False
        self._is_silent = True
        self._parts: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; end the stream when the client leaves."""
        whole: Response | None = None
        try:
            await while_connected(receive, self._send_all(send))
            if self._keyed is not None and self._parts[-1:] == [DONE]:
                whole = Response(b"".join(self._parts), headers=self._all_headers())
        finally:
            if self._keyed is not None:
                store = services(self._request).idempotency
                store.end_stream(self._keyed.key, self._keyed.digest, whole)

    async def _send_all(self, send: Send) -> None:
        service = services(self._request)
        pinging = asyncio.ensure_future(self._ping(send, service.settings.sse_ping_s))
        try:
            async with self._limits(), aclosing(self._events) as events:
                async for part in events:
                    await self._send(send, part)
        except (CaiError, HttpError) as exc:
            await self._fail(send, exc)
        except Exception as exc:
            if self._is_started:
                logger.error("unexpected %s in a stream", type(exc).__name__)
            await self._fail(send, exc)
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @asynccontextmanager
    async def _limits(self) -> AsyncIterator[None]:
        service = services(self._request)
        async with deadline(service.settings.request_timeout_s), service.admission.slot():
            yield

    async def _send(self, send: Send, part: bytes) -> None:
        if not self._is_started:
            await self._start(send)
        self._is_silent = False
        if self._keyed is not None:
            self._parts.append(part)
        await send({"type": "http.response.body", "body": part, "more_body": True})

    async def _start(self, send: Send) -> None:
        self._is_started = True
        headers = [(k.encode(), v.encode()) for k, v in self._all_headers().items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _fail(self, send: Send, exc: Exception) -> None:
        """Before the start, an ordinary error answer is somebody else's to give."""
        if not self._is_started:
            raise exc
        await self._send(send, event(classify(exc).body))

    async def _ping(self, send: Send, every_s: float) -> None:
        """A comment after each silence, so that proxies and clients keep the connection."""
        while True:
            self._is_silent = True
            await asyncio.sleep(every_s)
            if self._is_silent:
                if not self._is_started:
                    await self._start(send)
                await send({"type": "http.response.body", "body": _PING, "more_body": True})

    def _all_headers(self) -> dict[str, str]:
        return {
            "content-type": "text/event-stream; charset=utf-8",
            **_HEADERS,
            **self._late_headers,
        }
