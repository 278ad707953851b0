"""The same `Idempotency-Key` with the same body gives the same answer, and costs once.

In memory, bounded in bytes and time. Only successes are kept, so that a failed request can be
tried again. Start from `IdempotencyStore.once`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from cai.errors import ConflictError
from server.errors import HttpError

_OVERHEAD_BYTES = 1024


@dataclass(slots=True)
class _Kept:
    digest: str
    response: Response
    expires_at: float

    @property
    def size_bytes(self) -> int:
        return len(self.response.body) + _OVERHEAD_BYTES


@dataclass(slots=True)
class _Running:
    digest: str
    task: asyncio.Task[Response] | None
    num_waiters: int = 0


class IdempotencyStore:
    """Answers by key. A key belongs to one caller and one path; the caller of `once` sees to it."""

    def __init__(self, *, ttl_s: float, max_bytes: int) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._running: dict[str, _Running] = {}

    async def once(
        self, key: str, digest: str, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        """The kept answer, the answer of the request at work under this key, or that of `work`.

        Work is cancelled when nobody waits for it any more. Raises HttpError 422 when the key
        came with another body.
        """
        kept = self.find(key, digest)
        if kept is not None:
            return kept
        running = self._running.get(key)
        if running is None:
            running = _Running(digest, asyncio.ensure_future(_run(work)))
            self._running[key] = running
            assert running.task is not None
            running.task.add_done_callback(lambda task: self._finish(key, digest, task))
        _check_same(running.digest, digest)
        if running.task is None:
            raise ConflictError("a stream with this Idempotency-Key is at work; wait for its end")
        running.num_waiters += 1
        try:
            return await asyncio.shield(running.task)
        finally:
            running.num_waiters -= 1
            if running.num_waiters == 0:
                running.task.cancel()

    def find(self, key: str, digest: str) -> Response | None:
        """The kept answer to a key; HttpError 422 when it was to another body."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires_at < time.monotonic():
            self._drop(key)
            return None
        _check_same(kept.digest, digest)
        self._kept.move_to_end(key)
        return kept.response

    def begin_stream(self, key: str, digest: str) -> None:
        """Take a key for a stream; ConflictError when it is at work. Follow with `end_stream`."""
        running = self._running.get(key)
        if running is not None:
            _check_same(running.digest, digest)
            raise ConflictError("a request with this Idempotency-Key is at work; wait for its end")
        self._running[key] = _Running(digest, None)

    def end_stream(self, key: str, digest: str, response: Response | None) -> None:
        """Keep a stream's whole answer, or give the key free when there is none."""
        self._running.pop(key, None)
        if response is not None:
            self._keep(key, digest, response)

    def _finish(self, key: str, digest: str, task: asyncio.Task[Response]) -> None:
        self._running.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._keep(key, digest, task.result())

    def _keep(self, key: str, digest: str, response: Response) -> None:
        if response.status_code != 200 or len(response.body) > self._max_bytes // 4:
            return
        self._drop(key)
        self._kept[key] = _Kept(digest, _replay(response), time.monotonic() + self._ttl_s)
        self.size_bytes += self._kept[key].size_bytes
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size_bytes -= kept.size_bytes


async def _run(work: Callable[[], Awaitable[Response]]) -> Response:
    return await work()


def _replay(response: Response) -> Response:
    headers = {**response.headers, "idempotency-replayed": "true"}
    return Response(response.body, response.status_code, headers)


def _check_same(before: str, now: str) -> None:
    if before != now:
        raise HttpError(
            422,
            "this Idempotency-Key came with another body before; use a new key",
            code="idempotency_key_reused",
            param="Idempotency-Key",
        )
