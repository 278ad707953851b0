"""What the tests of remote engines share."""

import asyncio

import pytest

from cai.engine import remote_calls


@pytest.fixture
def no_waiting(monkeypatch):
    """Waits between attempts take no time; the list has what they would have been."""
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(remote_calls.asyncio, "sleep", sleep)
    return waits
