"""The worker that `cai serve` starts: a child process that dies with the server.

Started again with back-off when it ends, for as long as the server runs. Start from `WorkerChild`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping

from cai.jobs.child import command_line
from cai.jobs.runner import GRACE_S
from cai.settings import Settings

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_SETTLED_S = 60.0  # one that ran for so long begins again at once


class WorkerChild:
    """One `cai worker` beside the server; with `url` and `key` it asks the server."""

    def __init__(self, settings: Settings, *, url: str = "", key: str | None = None) -> None:
        self._settings = settings
        self._key = key
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self.url = url
        self.key = key
        self.num_starts = 0

    @property
    def pid(self) -> int | None:
        """The worker's process, while there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the worker, and keep it running until `stop`."""
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Stop the worker: its jobs go on where they were when the next one starts."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE_S + 10.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _keep_running(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            self._process = await self._begin()
            code = await self._process.wait()
            lived_s = time.monotonic() - started
            pause_s = _FIRST_PAUSE_S if lived_s > _SETTLED_S else pause_s
            logger.warning(
                "worker ended code=%s lived_s=%.1f again_in_s=%.1f", code, lived_s, pause_s
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _begin(self) -> asyncio.subprocess.Process:
        """From the event loop's own thread, which lives as long as the server."""
        self.num_starts += 1
        process = await asyncio.create_subprocess_exec(
            *command_line(("worker",)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, **self._environment()},
            start_new_session=True,  # Ctrl-C is for the server, which stops the worker itself
        )
        logger.info("worker started pid=%d", process.pid)
        return process

    def _environment(self) -> Mapping[str, str]:
        settings = self._settings
        values = {
            "CAI_HOME": str(settings.home.absolute()),
            "CAI_CONSTITUTIONS": str(settings.constitutions.absolute()),
            "CAI_DATABASE_URL": settings.database_url,
            "CAI_URL": settings.url or self.url or None,
            "CAI_API_KEY": self.key,
        }
        return {name: value for name, value in values.items() if value is not None}
