"""HTTP calls to a server: bounded in number, repeated where that can help, with errors of ours.

Knows nothing of models and prompts. Start from `Caller.post`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from cai.engine.remote_errors import KEY_VARIABLE, error_from, retry_after_s
from cai.errors import (
    CaiError,
    ConfigError,
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    InputError,
    PromptError,
)

_RETRIED = {408, 429, 500, 502, 503, 504}
_CONNECT_TIMEOUT_S = 10.0

T = TypeVar("T")


class Caller:
    """A client of one server. `base` is its address without a name and password.

    `key_variable` is where the key comes from, told to whoever has one that will not do.
    """

    def __init__(
        self,
        base: str,
        *,
        api_key: str | None,
        max_concurrency: int,
        max_attempts: int,
        timeout_s: float,
        transport: httpx2.AsyncBaseTransport | None = None,
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        self._key_variable = key_variable
        self.base, login = _without_login(base)
        self._secrets = [part for part in (api_key, *(login or ())[1:]) if part]
        self._slots = asyncio.Semaphore(max_concurrency)
        self._max_attempts = max_attempts
        self._timeout_s = timeout_s
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("the API key has characters that no key has; copy it again")
        try:
            self._client = httpx2.AsyncClient(
                base_url=self.base + "/",
                auth=login,
                headers={"authorization": f"Bearer {api_key}"} if api_key and not login else {},
                timeout=httpx2.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s)),
                limits=httpx2.Limits(
                    max_connections=max_concurrency, max_keepalive_connections=max_concurrency
                ),
                transport=transport,
            )
        except (httpx2.InvalidURL, UnicodeError) as exc:
            raise ConfigError(f"'{self.base}' is no address of a server: {exc}") from exc

    async def get(self, path: str, *, timeout_s: float | None = None) -> Any:
        """The JSON of `GET path`, asked for once."""
        limit_s = timeout_s or self._timeout_s
        try:
            async with self._errors(limit_s):
                return self._json(await self._client.get(path, timeout=limit_s))
        except _AgainError as exc:
            raise exc.error from exc

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that `POST path` answers, after as many attempts as it takes or are allowed."""
        content = _encoded(body)

        async def attempt() -> Any:
            async with self._errors(self._timeout_s):
                response = await self._client.post(path, content=content, headers=_JSON)
                return self._json(response)

        async with self._slots:
            return await self._repeated(attempt)

    @asynccontextmanager
    async def open_stream(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes that `POST path` streams; only what fails before the first is repeated."""
        content = _encoded(body)

        async def attempt() -> httpx2.Response:
            async with self._errors(self._timeout_s):
                request = self._client.build_request("POST", path, content=content, headers=_JSON)
                response = await self._client.send(request, stream=True)
                if response.status_code != 200:
                    try:
                        await response.aread()
                    finally:
                        await response.aclose()
                    raise self._failed(response)
                return response

        async with self._slots:
            response = await self._repeated(attempt)
            try:
                async with self._errors(self._timeout_s):
                    yield response.aiter_bytes()
            except _AgainError as exc:
                raise exc.error from exc
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        """Close the connections. Repeated calls do nothing."""
        await self._client.aclose()

    async def _repeated(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for number in range(1, self._max_attempts):
            try:
                return await attempt()
            except _AgainError as exc:
                await asyncio.sleep(max(exc.after_s, _backoff_s(number)))
        try:
            return await attempt()
        except _AgainError as exc:
            raise exc.error from exc

    @asynccontextmanager
    async def _errors(self, limit_s: float) -> AsyncIterator[None]:
        try:
            yield
        except (httpx2.ConnectTimeout, httpx2.NetworkError, httpx2.ProtocolError) as exc:
            reason = f"{self.base} cannot be reached: {type(exc).__name__}: {exc}"
            raise _AgainError(EngineDeadError(reason)) from exc
        except httpx2.TimeoutException as exc:
            raise EngineTimeoutError(f"{self.base} gave no answer within {limit_s:g} s") from exc
        except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError) as exc:
            raise EngineError(f"{self.base}: {type(exc).__name__}: {exc}") from exc
        except RuntimeError as exc:
            if not self._client.is_closed:
                raise
            raise EngineDeadError("the engine is closed") from exc

    def _json(self, response: httpx2.Response) -> Any:
        if response.status_code != 200:
            raise self._failed(response)
        try:
            return response.json()
        except (ValueError, RecursionError) as exc:
            error = EngineError(f"the answer of {self.base} is not JSON: {exc}")
            raise _AgainError(error) from exc

    def _failed(self, response: httpx2.Response) -> Exception:
        error = error_from(response, hidden=self._secrets, key_variable=self._key_variable)
        if response.status_code not in _RETRIED:
            return error
        return _AgainError(error, after_s=retry_after_s(response))


class _AgainError(Exception):
    """`error`, which a repeat after `after_s` seconds may not meet."""

    def __init__(self, error: CaiError, after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


_JSON = {"content-type": "application/json"}


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as exc:
        raise PromptError("the prompt has half a character (a lone surrogate); remove it") from exc
    except ValueError as exc:
        raise InputError(f"the request has a number that JSON cannot carry: {exc}") from exc


def _without_login(base: str) -> tuple[str, tuple[str, str] | None]:
    """The address without `name:password@`, and these two where they are there."""
    try:
        parts = urlsplit(base.rstrip("/"))
        name, password = parts.username, parts.password
    except ValueError as exc:
        raise ConfigError(f"the address of the server is not valid: {exc}") from exc
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit(parts._replace(netloc=host))
    if name is None and password is None:
        return plain, None
    return plain, (unquote(name or ""), unquote(password or ""))


def _backoff_s(attempt: int) -> float:
    return min(8.0, 0.25 * 2.0**attempt) * random.uniform(0.5, 1.0)
