"""What a worker asks of the running server: make room on the device, promote a policy.

Over HTTP with the key of CAI_API_KEY, blocking. Whoever can wait for a server that is away does so
with `patience.insist`. Start from `ServerCalls`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from cai.errors import CaiError, ConflictError, EngineDeadError, EngineError, InputError

_TIMEOUT_S: Final = 900.0  # a promotion waits for streams, loads weights and verifies them
_LOOK_TIMEOUT_S: Final = 5.0
_TRIES: Final = 6  # of a wake, which nobody waits for
_PAUSE_S: Final = 5.0
_MAX_BYTES: Final = 1_000_000


class ServerCalls:
    """The calls to one server. Raises the CaiError that stands for the answer's status."""

    def __init__(self, url: str, *, key: str | None = None, pause_s: float = _PAUSE_S) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._pause_s = pause_s
        self._opener = build_opener(ProxyHandler({}))

    @classmethod
    def from_environment(cls, url: str) -> ServerCalls:
        """With the key that the environment has."""
        return cls(url, key=os.environ.get("CAI_API_KEY") or None)

    def is_ready(self) -> bool:
        """Whether the server is there and answers requests."""
        try:
            with self._opener.open(f"{self._url}/readyz", timeout=_LOOK_TIMEOUT_S):
                return True
        except OSError:  # HTTPError, URLError and timeouts are of its kind
            return False

    def sleep(self, job: str, *, lease_s: float) -> None:
        """Free the engine's device for a job, for so long; again for the same job renews it."""
        self._post("/internal/sleep", {"job": job, "lease_s": lease_s})

    def wake(self, job: str) -> None:
        """Give the device back; again does nothing."""
        self._post("/internal/wake", {"job": job}, tries=_TRIES)

    def promote(self, policy: str, *, job: str) -> dict[str, Any]:
        """Make a policy the live one, verified on the running engine."""
        path = f"/v1/policies/{quote(policy, safe='')}/promote"
        return self._post(path, {}, {"idempotency-key": f"{job}-promote"})

    def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        tries: int = 1,
    ) -> dict[str, Any]:
        for attempt in range(1, tries + 1):
            try:
                return self._send(path, body, headers or {})
            except EngineDeadError:
                if attempt == tries:
                    raise
                time.sleep(self._pause_s)
        raise AssertionError("the last try returns or raises")

    def _send(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        sent = {"content-type": "application/json", **headers}
        if self._key is not None:
            sent["authorization"] = f"Bearer {self._key}"
        data = json.dumps(body).encode()
        request = Request(self._url + path, data=data, headers=sent, method="POST")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                answer: Any = json.loads(response.read(_MAX_BYTES) or b"{}")
        except HTTPError as exc:
            raise _error(exc, path) from None
        except (URLError, OSError) as exc:
            reason = getattr(exc, "reason", exc)
            raise EngineDeadError(f"{self._url} cannot be reached: {reason}") from exc
        except ValueError as exc:
            raise EngineError(f"POST {path}: the server's answer is not JSON") from exc
        return answer if isinstance(answer, dict) else {}


def _error(exc: HTTPError, path: str) -> CaiError:
    try:
        told = json.loads(exc.read(_MAX_BYTES))["error"]["message"]
    except (OSError, ValueError, KeyError, TypeError):
        told = exc.reason
    message = f"POST {path} was answered {exc.code}: {str(told)[:1000]}"
    if exc.code == 409:
        return ConflictError(message)
    if exc.code in (429, 502, 503, 504):
        return EngineDeadError(message)
    return InputError(message) if exc.code < 500 else EngineError(message)
