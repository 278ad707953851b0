"""The engine's device, held for a job: asked for, renewed while the job runs, given back.

The server takes it back by itself when the renewals stop, so that no engine sleeps for a worker
that is gone. Start from `leased`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cai.errors import CaiError
from cai.jobs.calls import ServerCalls

logger = logging.getLogger(__name__)

LEASE_S: Final = 120.0
"""Seconds without a renewal after which the server takes its device back."""

RENEW_S: Final = 30.0


@contextmanager
def leased(server: ServerCalls, job: str, *, every_s: float = RENEW_S) -> Iterator[None]:
    """The device for as long as the body runs; giving it back is the caller's, who may try again.

    Raises the CaiError of the server's answer when it is not to be had.
    """
    server.sleep(job, lease_s=LEASE_S)
    over = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(server, job, over, every_s), name=f"lease-{job}", daemon=True
    )
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()  # a renewal that came after the engine woke would put it to sleep again


def _renew(server: ServerCalls, job: str, over: threading.Event, every_s: float) -> None:
    while not over.wait(every_s):
        try:
            server.sleep(job, lease_s=LEASE_S)
        except CaiError as exc:
            logger.warning("job=%s the device's lease was not renewed: %s", job, exc.message)
