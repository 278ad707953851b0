"""A server's refusals and failures as errors of ours.

Start from `error_from`; it tells the classes apart by status and by the envelope's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cai.errors import (
    CaiError,
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    InputError,
    NotFoundError,
    OverloadedError,
    UnsupportedError,
)

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "OPENAI_API_KEY"

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "service_unavailable_error": 503,
    "timeout_error": 504,
}


def error_from(
    response: httpx2.Response, *, hidden: Sequence[str] = (), key_variable: str = KEY_VARIABLE
) -> CaiError:
    """The error tree's class for an answer that is no success, without the `hidden` texts.

    `key_variable` is the environment's name for the key, told where the key will not do.
    """
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = {}
    wait_s = retry_after_s(response) or 1.0
    return error_from_body(
        body,
        status=response.status_code,
        hidden=hidden,
        retry_after_s=wait_s,
        key_variable=key_variable,
    )


def error_from_body(
    body: Any,
    *,
    status: int,
    hidden: Sequence[str] = (),
    retry_after_s: float = 1.0,
    key_variable: str = KEY_VARIABLE,
) -> CaiError:
    """The same from the envelope alone, as a stream carries it."""
    text = _message(body, status)
    for secret in hidden:
        text = text.replace(secret, "***")
    code = _envelope(body).get("code")
    if status == 429:
        return OverloadedError(text, retry_after_s=retry_after_s)
    if status in (401, 403):
        return ConfigError(f"{text}; set {key_variable} to a key that may do this")
    if status == 404:
        return NotFoundError(text)
    if status == 503:
        return EngineDeadError(text)
    if status in (408, 504):
        return EngineTimeoutError(text)
    if code == "context_length_exceeded" or "maximum context length" in text:
        return ContextLengthError(text)
    if code == "unsupported":
        return UnsupportedError(text)
    return InputError(text) if 400 <= status < 500 else EngineError(text)


def status_of(body: Mapping[str, Any]) -> int:
    """The status that an error inside a stream would have had before it."""
    envelope = _envelope(body)
    code = envelope.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS_OF_TYPE.get(str(envelope.get("type")), 500)


def retry_after_s(response: httpx2.Response) -> float:
    """Seconds that the server asks to wait; 0 when it does not say."""
    try:
        return min(60.0, max(0.0, float(response.headers.get("retry-after", "0"))))
    except ValueError:
        return 0.0


def _envelope(body: Any) -> Mapping[str, Any]:
    envelope = body.get("error", body) if isinstance(body, dict) else {}
    return envelope if isinstance(envelope, dict) else {"message": envelope}


def _message(body: Any, status: int) -> str:
    envelope = _envelope(body)
    text = envelope.get("message") or envelope.get("detail")
    shown = " ".join(str(text).split())[:500] if text else "no message"
    return f"the server answers {status}: {shown}"
