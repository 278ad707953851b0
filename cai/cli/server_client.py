"""Calls of commands to a running server: one request, one answer, errors of ours.

The key is read from a variable of the environment, never from the command line, which others on
the machine can see. Start from `ServerClient`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from cai.engine.remote_errors import error_from
from cai.errors import CaiError, ConfigError, ConflictError, EngineDeadError

KEY_VARIABLE: Final = "CAI_API_KEY"

_CONNECT_TIMEOUT_S = 10.0


class ServerClient:
    """A server at `url`, http://host:port. The key in the variable `key_variable` goes along."""

    def __init__(
        self,
        url: str,
        *,
        key_variable: str = KEY_VARIABLE,
        timeout_s: float = 600.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = _checked(url)
        self._key_variable = key_variable
        self._key = os.environ.get(key_variable, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"{key_variable} has characters that no key has; copy it again")
        self._client = httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s)),
            transport=transport,
        )

    def __enter__(self) -> ServerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON of `GET path`."""
        return self._answer("GET", path)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, once: str | None = None
    ) -> Any:
        """The JSON that `POST path` answers; sent once, as it may not bear being repeated.

        With `once`, an Idempotency-Key, it may be: the same key and body have their effect once.
        """
        headers = {} if once is None else {"idempotency-key": once}
        return self._answer("POST", path, json=body or {}, headers=headers)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that `PUT path` answers."""
        return self._answer("PUT", path, json=body)

    def upload(self, file: Path) -> Any:
        """The record of a file of prompts that the server keeps; the same content is one file."""
        return self._answer(
            "POST",
            "/v1/files",
            params={"filename": file.name},
            content=file.read_bytes(),
            headers={"content-type": "application/octet-stream"},
        )

    def _answer(self, method: str, path: str, **sent: Any) -> Any:
        try:
            response = self._client.request(method, path, **sent)
        except httpx2.TimeoutException as exc:
            raise EngineDeadError(f"{self.url} gave no answer in time; ask it again") from exc
        except (httpx2.RequestError, httpx2.InvalidURL) as exc:
            raise EngineDeadError(
                f"{self.url} cannot be reached ({type(exc).__name__}: {exc}); is 'cai serve' "
                "running there?"
            ) from exc
        if response.status_code >= 400:
            raise self._error(response)
        try:
            return response.json()
        except ValueError as exc:
            raise CaiError(f"the answer of {self.url} is not JSON: {exc}") from exc

    def _error(self, response: httpx2.Response) -> CaiError:
        error = error_from(
            response,
            hidden=[self._key] if self._key else [],
            key_variable=self._key_variable,
        )
        return ConflictError(error.message) if response.status_code == 409 else error


def _checked(url: str) -> str:
    """The address without /v1, under which some write it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError(
            "the address of the server should look like http://host:port, without a name",
            param="url",
        )
    return url.rstrip("/").removesuffix("/v1")
