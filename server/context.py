"""One record per request, and the outermost layer: id, log line, metrics, headers, last resort.

Pure ASGI, since it is on the way of every request and every streamed chunk. Start from
`RequestContext`; handlers reach their record with `request_info`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
import traceback
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cai.errors import EngineDeadError
from cai.types import Usage
from server.errors import ClientGoneError, HttpError, error_response
from server.gate import Gate
from server.metrics import Metrics

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
_API_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


@dataclass(slots=True)
class RequestInfo:
    """What the log and the metrics want to know about a request."""

    id: str
    headers: dict[bytes, bytes]
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    key_name: str | None = None
    user: str | None = None
    usage: Usage = field(default_factory=Usage)
    first_token_s: float | None = None

    def mark_first_token(self) -> None:
        """Note the time to the first streamed token."""
        self.first_token_s = time.perf_counter() - self.started

    def tag_user(self, user: str | None) -> None:
        """Remember whose request it was, as a digest: names of people stay out of logs."""
        if user is not None:
            self.user = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def request_info(connection: HTTPConnection) -> RequestInfo:
    """The record of this request."""
    info = connection.scope["cai"]
    assert isinstance(info, RequestInfo), info
    return info


class RequestContext:
    """Outermost ASGI layer. Whatever happens inside, the request ends with an answer of ours."""

    def __init__(self, app: ASGIApp, *, gate: Gate, metrics: Metrics) -> None:
        self._app = app
        self._gate = gate
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens inside."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])  # of a header that is there twice, the last counts
        info = RequestInfo(_request_id(headers), headers)
        scope["cai"] = info
        outgoing = _Outgoing(send, info)
        try:
            self._gate.check(headers)
            await self._app(scope, receive, outgoing)
        except ClientGoneError as exc:
            info.status = exc.status
        except asyncio.CancelledError:
            await _refuse(EngineDeadError("the server is stopping"), scope, receive, outgoing)
            raise
        except HttpError as exc:
            await _refuse(exc, scope, receive, outgoing)
        except Exception as exc:
            _log_unknown(exc, info.id)
            await _refuse(exc, scope, receive, outgoing)
        finally:
            self._finish(scope, info)

    def _finish(self, scope: Scope, info: RequestInfo) -> None:
        seconds = time.perf_counter() - info.started
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.observe_request(route, scope["method"], info.status, seconds)
        if info.first_token_s is not None:
            self._metrics.observe_first_token(route, info.first_token_s)
        if not logger.isEnabledFor(logging.INFO):
            return
        logger.info(
            "request id=%s method=%s route=%s status=%d seconds=%.4f key=%s user=%s "
            "prompt_tokens=%d completion_tokens=%d",
            info.id,
            scope["method"] if scope["method"].isalpha() else "-",
            route,
            info.status,
            seconds,
            info.key_name or "-",
            info.user or "-",
            info.usage.prompt_tokens,
            info.usage.completion_tokens,
        )


class _Outgoing:
    """`send`, with our headers on the first message."""

    def __init__(self, send: Send, info: RequestInfo) -> None:
        self._send = send
        self._info = info
        self.is_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            self._info.status = message["status"]
            headers = list(message.get("headers", ()))
            headers.append((b"x-request-id", self._info.id.encode()))
            headers += _SECURITY_HEADERS
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append(_API_POLICY)
            message = {**message, "headers": headers}
        await self._send(message)


async def _refuse(exc: Exception, scope: Scope, receive: Receive, outgoing: _Outgoing) -> None:
    if not outgoing.is_started:
        await error_response(exc)(scope, receive, outgoing)


def _request_id(headers: dict[bytes, bytes]) -> str:
    """The client's own id where it is harmless, else a fresh one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return secrets.token_hex(12)


def _log_unknown(exc: Exception, request_id: str) -> None:
    """Type and place of an unexpected exception; its text may quote a user, so it stays out."""
    places = "".join(traceback.format_tb(exc.__traceback__))
    logger.error("unexpected %s request=%s\n%s", type(exc).__name__, request_id, places)
