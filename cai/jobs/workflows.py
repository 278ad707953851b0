"""A job as a durable workflow: its steps in order, the finished ones never run again.

A step that a kill cut off runs again in whole, on another worker, so `Tasks` makes each of them
repeatable. Start from `install`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cai.errors import DatabaseError
from cai.jobs.attempts import Outcome, failed
from cai.jobs.queue import WORKFLOW
from cai.jobs.tasks import Tasks

from dbos import DBOS  # isort: skip  # after `queue`, which says what to install where it is not

_TRIES = 8  # of a step whose database is away: about a minute
_FIRST_PAUSE_S = 0.5


def install(tasks: Tasks) -> None:
    """Tell DBOS of the workflow; before it is launched, once in a process."""

    def step(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        return DBOS.step(
            name=name,
            retries_allowed=True,
            max_attempts=_TRIES,
            interval_seconds=_FIRST_PAUSE_S,
            should_retry=lambda exc: isinstance(exc, DatabaseError),
        )(work)

    run = step("run", lambda id: tasks.run(id))
    later = {
        "register": step("register", lambda id, outcome: tasks.register(id, outcome)),
        "gate": step("gate", lambda id, outcome: tasks.gate(id, outcome)),
        "promote": step("promote", lambda id, outcome: tasks.promote(id, outcome)),
    }
    finish = step("finish", lambda id, outcome: tasks.finish(id, outcome))

    def whole(id: str) -> Outcome:
        outcome: Outcome = run(id)
        for name in outcome.get("then", ()):
            if outcome["state"] == "done" and (name != "promote" or _has_passed(outcome)):
                outcome = later[name](id, outcome)
        return outcome

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)  # attempts are counted by us
    def job(id: str) -> str:
        try:
            outcome = whole(id)
        except Exception as exc:  # a defect: the job must not stay `running` for ever
            outcome = failed(f"{type(exc).__name__}: {exc}"[:1000])
        finish(id, outcome)
        return str(outcome["state"])


def _has_passed(outcome: Outcome) -> bool:
    return bool(outcome["result"]["gate"]["passed"])
