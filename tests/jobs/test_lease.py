"""The lease of an engine's device: renewed while the body runs, and never after it."""

from __future__ import annotations

import time

import pytest

from cai.errors import ConflictError, EngineDeadError
from cai.jobs.lease import leased


class Server:
    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.refusals: list[Exception] = []

    def sleep(self, job: str, *, lease_s: float) -> None:
        self.asked.append((job, lease_s))
        if self.refusals:
            raise self.refusals.pop(0)


def wait_for(server: Server, num: int) -> None:
    until = time.monotonic() + 10
    while len(server.asked) < num:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_it_is_renewed_while_the_body_runs_and_not_after():
    server = Server()
    with leased(server, "j", every_s=0.01):
        wait_for(server, 4)
    num = len(server.asked)
    time.sleep(0.05)
    assert len(server.asked) == num
    assert set(server.asked) == {("j", 120.0)}


def test_a_renewal_that_fails_does_not_end_the_body(caplog):
    server = Server()
    with leased(server, "j", every_s=0.01):
        server.refusals = [EngineDeadError("it restarts")]
        wait_for(server, len(server.asked) + 3)
    assert "it restarts" in caplog.text


def test_a_device_that_is_not_to_be_had_says_so_before_the_body():
    server = Server()
    server.refusals = [ConflictError("another job has it")]
    with pytest.raises(ConflictError), leased(server, "j"):
        pytest.fail("the body ran")
