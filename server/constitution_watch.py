"""Watches the folder of constitutions, so that edits are told when they are made.

Requests see edits without it: the store looks at the files each time. Start from `watched`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from cai.constitution.live import SETTLED_S, LiveStore
from cai.constitution.lock import LOCK_NAME
from cai.constitution.store import ConstitutionStore

_RETRY_S = 2.0

logger = logging.getLogger(__name__)


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def watched(store: ConstitutionStore, lifespan: Lifespan) -> Lifespan:
    """The lifespan of an app, in which a live store is watched as well."""

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(watch(store)) if isinstance(store, LiveStore) else None
        try:
            async with lifespan(app):
                yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    return both


async def watch(store: LiveStore) -> None:
    """Read what changes in the store's folder until cancelled; a missing folder is waited for."""
    from watchfiles import Change, awatch

    def is_ours(_change: Change, path: str) -> bool:
        return Path(path).suffix == ".yaml" or Path(path).name == LOCK_NAME

    await asyncio.to_thread(store.refresh)  # so that there is a last good one of each
    while True:
        try:
            async for _ in awatch(store.root, watch_filter=is_ours, debounce=200, step=50):
                await asyncio.sleep(2 * SETTLED_S)
                await asyncio.to_thread(store.refresh)
        except (OSError, RuntimeError) as exc:  # no such folder yet, or too many watches
            logger.debug("constitutions are not watched: %s", exc)
        await asyncio.sleep(_RETRY_S)
