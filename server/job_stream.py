"""Streams that follow something for as long as it lasts: no slot of the engine, and no deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import Request

from cai.errors import OverloadedError
from server.deps import services
from server.streaming import Events, EventStream

MAX_WATCHERS: Final = 256
"""Streams that follow something at once; the next one is answered 429."""


class LastingStream(EventStream):
    """Events as they come, until there are no more or the client leaves."""

    def __init__(self, request: Request, events: Events) -> None:
        super().__init__(request, events, {}, None)

    @asynccontextmanager
    async def _limits(self) -> AsyncIterator[None]:
        service = services(self._request)
        if service.num_watchers >= MAX_WATCHERS:
            raise OverloadedError(
                f"{MAX_WATCHERS} streams are followed already; ask for the state now and then",
                retry_after_s=10.0,
            )
        service.num_watchers += 1
        try:
            yield
        finally:
            service.num_watchers -= 1
