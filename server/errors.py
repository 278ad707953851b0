"""The one place where errors become statuses, and OpenAI's envelope.

    HttpError                 what only the HTTP border knows (401, 403, 413, 415, …)
    └── ClientGoneError       nobody is there to be answered
    CaiError                  by class, most specific first: `_STATUSES`

Start from `error_response`. A text that is not ours (an unknown exception's) never leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cai import errors
from server.validation import JsonError, UnknownFieldError

logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 5.0


class HttpError(Exception):
    """An error of the HTTP border itself."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


class ClientGoneError(HttpError):
    """The client closed the connection; its work was aborted."""

    def __init__(self) -> None:
        super().__init__(499, "the client closed the connection", code="client_closed_request")


class Classified(NamedTuple):
    """An error as HTTP sees it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


_STATUSES: tuple[tuple[type[errors.CaiError], int, str], ...] = (
    (errors.TamperedReleaseError, 409, "tampered_release"),
    (errors.ConstitutionError, 400, "invalid_constitution"),
    (errors.ContextLengthError, 400, "context_length_exceeded"),
    (errors.UnsupportedError, 400, "unsupported"),
    (UnknownFieldError, 400, "unknown_field"),
    (JsonError, 400, "invalid_json"),
    (errors.InputError, 400, "invalid_value"),
    (errors.NotFoundError, 404, "not_found"),
    (errors.ConflictError, 409, "conflict"),
    (errors.JudgeError, 502, "no_verdict"),
    (errors.EngineDeadError, 503, "engine_unavailable"),
    (errors.OverloadedError, 429, "overloaded"),
    (errors.EngineTimeoutError, 504, "timeout"),
    (errors.EngineError, 500, "engine_error"),
    (errors.DatabaseError, 503, "database_unavailable"),
    (errors.CaiError, 500, "error"),
)
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


def classify(exc: Exception) -> Classified:
    """Status, envelope and headers of any exception."""
    if isinstance(exc, HttpError):
        return _classified(exc.status, exc.message, exc.code, exc.param, exc.headers)
    if isinstance(exc, errors.CaiError):
        status, code = next((s, c) for kind, s, c in _STATUSES if isinstance(exc, kind))
        return _classified(status, _message(exc), code, exc.param, _retry_after(exc))
    if isinstance(exc, HTTPException):
        return _classified(exc.status_code, exc.detail, "http_error", None, exc.headers or {})
    return _classified(500, "internal error; the server's log has it by request id", "internal")


def error_response(exc: Exception) -> Response:
    """The answer to a request that failed with `exc`."""
    status, body, headers = classify(exc)
    return Response(to_json(body), status, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Answer raised errors with the envelope. Unknown ones are the outermost layer's to answer."""
    app.add_exception_handler(errors.CaiError, _handle)
    app.add_exception_handler(HttpError, _handle)
    app.add_exception_handler(HTTPException, _handle_routing)


async def _handle(_request: Request, exc: Exception) -> Response:
    return error_response(exc)


async def _handle_routing(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException), exc
    headers = exc.headers or {}
    if exc.status_code == 404:
        message = f"there is no {request.url.path[:200]!r} here; /docs lists the calls"
        return error_response(HttpError(404, message, code="no_such_route", headers=headers))
    if exc.status_code == 405:
        message = f"{request.method} is not allowed here; allowed: {headers.get('Allow', '')}"
        return error_response(HttpError(405, message, code="method_not_allowed", headers=headers))
    return error_response(exc)


def _classified(
    status: int,
    message: str,
    code: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Classified:
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    envelope = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Classified(status, envelope, dict(headers or {}))


def _message(exc: errors.CaiError) -> str:
    """The text for a client: a file's place is told from its constitution's folder on at most."""
    if isinstance(exc, errors.ConstitutionError) and exc.path is not None:
        where = ["/".join(exc.path.parts[-2:]), exc.line, exc.column]
        return ":".join(str(part) for part in where if part is not None) + f": {exc.reason}"
    if isinstance(exc, errors.DatabaseError):
        logger.error("%s", exc.message)  # it names the server's files
        return "the database cannot be used now; the server's log says why"
    return exc.message


def _retry_after(exc: errors.CaiError) -> dict[str, str]:
    if isinstance(exc, errors.OverloadedError):
        return {"retry-after": str(max(1, round(exc.retry_after_s)))}
    if isinstance(exc, errors.EngineDeadError | errors.DatabaseError):
        return {"retry-after": f"{_RETRY_AFTER_S:g}"}
    return {}
