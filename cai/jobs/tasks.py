"""The steps of a job, each of which may be cut off and run again: what the workflow is made of.

`run` brings the command to its end, through crashes of worker and child; `register`, `gate` and
`promote` follow for a trained policy; `finish` says how it ended, once. Knows nothing of DBOS.
Start from `Tasks`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from cai.errors import CaiError, ConflictError, DatabaseError
from cai.jobs.attempts import Attempts, Outcome, done, failed, park
from cai.jobs.calls import ServerCalls
from cai.jobs.kinds import kind_of, params_of
from cai.jobs.place import Command, Workplace, devices_env, printed_fields
from cai.jobs.spec import JobRecord, State
from cai.jobs.store import JobStore
from cai.policy.resolve import FOLDER

_BUSY_S: Final = 3600.0  # a promotion waits for long streams, and for others that change policies


class Tasks:
    """The steps, as one worker takes them. Methods block, and are called from threads."""

    def __init__(
        self,
        store: JobStore,
        place: Workplace,
        worker: str,
        *,
        attempts: Attempts,
        server: ServerCalls | None,
    ) -> None:
        self._store = store
        self._place = place
        self._worker = worker
        self._attempts = attempts
        self._server = server

    def run(self, id: str) -> Outcome:
        """Run the job's command until it ended; its outcome, and the steps that are to follow."""
        if self._attempts.leaving is not None:
            park()
        record = self._store.begin_attempt(id, self._worker)
        with _told() as told:
            kind, params = kind_of(record.kind), params_of(record.spec)
            ended = self._attempts.bring_to_end(
                record, lambda: kind.command(params, self._place, id), stage="running"
            )
            if "printed" not in ended:
                return ended
            result = kind.result(params, self._place, id, ended["printed"])
            steps = ("register", *(("gate", "promote") if record.spec.wants_gate else ()))
            return {**done(result), "then": list(steps if kind.is_training else ())}
        return failed(told[0])

    def register(self, id: str, outcome: Outcome) -> Outcome:
        """Register the policy that was trained as a candidate; the same one again is known."""
        record = self._owned(id)
        result = dict(outcome["result"])
        if record.is_cancelling:
            return _cancelled(result)
        with _told() as told:
            folder = self._place.settings.home / FOLDER / result["policy"]
            policy = self._place.policies.add(folder, actor=record.actor)
            self._store.note(id, self._worker, "registered", {"policy": policy.id})
            return {**outcome, **done({**result, "policy": policy.id})}
        return failed(told[0], result)

    def gate(self, id: str, outcome: Outcome) -> Outcome:
        """Evaluate the candidate; one that does not pass is rejected with the figures."""
        record = self._owned(id)
        result = dict(outcome["result"])
        limits = json.dumps(record.spec.limits)
        env = devices_env(record.spec.placement, self._place)
        command = Command(("gate", result["policy"], limits), env)
        with _told() as told:
            ended = self._attempts.bring_to_end(record, lambda: command, stage="gate")
            if "printed" not in ended:
                return {**ended, "result": result}
            verdict = printed_fields(ended["printed"], "passed", "figures", "reasons")
            self._store.note(id, self._worker, "gate", verdict)
            if not verdict["passed"]:
                self._reject(record, result["policy"], verdict)
            return {**outcome, **done({**result, "gate": verdict, "promoted": False})}
        return failed(told[0], result)

    def promote(self, id: str, outcome: Outcome) -> Outcome:
        """Promote a policy that passed, on the running server; once, however often it is asked."""
        result = dict(outcome["result"])
        if self._owned(id).is_cancelling:
            return _cancelled(result)
        if self._server is None:
            return done({**result, "note": "no server is known (CAI_URL) that could promote it"})
        server, policy = self._server, result["policy"]
        with _told() as told, self._attempts.counted():
            stop = self._attempts.ask_server(
                id,
                lambda: server.promote(policy, job=id),
                busy_s=_BUSY_S,
                is_busy=lambda: self._is_promotable(policy),
            )
            if stop is not None:
                return _cancelled(result)
        live = self._place.policies.live() if told else None
        if told and (live is None or live.id != result["policy"]):
            return failed(f"not promoted: {told[0]}", result)
        self._store.note(id, self._worker, "promoted", {"policy": result["policy"]})
        return done({**result, "promoted": True})

    def finish(self, id: str, outcome: Outcome) -> bool:
        """Say how the job ended; False when that was said before."""
        state: State = "succeeded" if outcome["state"] == "done" else outcome["state"]
        record = self._store.get(id)
        if record.spec.is_shared and not record.is_over:
            self._attempts.wake(id)
        return self._store.finish(
            id, state, result=outcome.get("result"), error=outcome.get("error")
        )

    def _owned(self, id: str) -> JobRecord:
        """The job, taken over where another worker had it."""
        record = self._store.get(id)
        if record.worker == self._worker:
            return record
        return self._store.begin_attempt(id, self._worker)

    def _is_promotable(self, policy: str) -> bool:
        """Whether the server's no was not to the policy, but to the moment."""
        try:
            self._place.policies.promotable(policy)
        except ConflictError:
            return False
        return True

    def _reject(self, record: JobRecord, policy: str, verdict: Mapping[str, Any]) -> None:
        found = self._place.policies.get(policy)
        if found.state in ("candidate", "verified"):
            reason = "the gate: " + ("; ".join(verdict["reasons"]) or "not passed")
            self._place.policies.reject(policy, reason, verdict["figures"], record.actor)


def _cancelled(result: Mapping[str, Any]) -> Outcome:
    return {"state": "cancelled", "result": dict(result)}


@contextmanager
def _told() -> Iterator[list[str]]:
    """What went wrong inside, as its message; a database that is away is not the job's error."""
    messages: list[str] = []
    try:
        yield messages
    except DatabaseError:
        raise
    except CaiError as exc:
        messages.append(exc.message)
