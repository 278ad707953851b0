"""The jobs of a round: each noted before it is queued, queued once, and waited for.

A job that failed is queued anew by the next session. Start from `RoundJobs.submit` and `ended`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from cai.errors import CaiError, ConflictError, NotFoundError
from cai.loop.calls import LoopServer, SeenJob
from cai.loop.state import JobNote, LoopNotes, Notebook, RoundNote

Watching = Callable[[str], AbstractContextManager[Callable[[SeenJob], None]]]
"""Shows how a job goes on: called with what is done, it gives what is called at each look."""


class RoundJobs:
    """Queues and waits for jobs, under names that belong to one loop."""

    def __init__(
        self,
        server: LoopServer,
        notebook: Notebook,
        notes: LoopNotes,
        *,
        priority: int,
        watching: Watching,
    ) -> None:
        self._server = server
        self._notebook = notebook
        self._notes = notes
        self._priority = priority
        self._watching = watching

    def submit(
        self,
        now: RoundNote,
        key: str,
        kind: str,
        params: dict[str, Any],
        names: str | None = None,
        **more: Any,
    ) -> None:
        """Queue a job unless it was; `names` is the parameter that says what it makes.

        `more` goes beside the parameters. Raises CaiError when the server refuses it.
        """
        note = self._note(now, key)
        if note.id is not None:
            return
        request = {"kind": kind, "params": params, **more}
        try:
            self._send(now, key, note, request, names)
        except ConflictError:  # an earlier job made it, and was stopped before it could say so
            if names is None:
                raise
            note = JobNote(body={}, attempt=note.attempt + 1, take=note.take + 1)
            self._send(now, key, note, request, names)

    def ended(self, now: RoundNote, key: str, *, may_have_failed: bool = False) -> JobNote:
        """The job once it is over. Raises CaiError when it failed."""
        note = now.jobs[key]
        assert note.id is not None, "it was submitted"
        if note.state is None:
            with self._watching(f"round {now.number}, {key}") as on_look:
                seen = self._seen(note.id, on_look)
            note.state, note.result, note.error = seen.state, seen.result or {}, seen.error
            self._notebook.save(self._notes, now)
        if note.state != "succeeded" and not may_have_failed:
            raise self.failure(now, key, note)
        return note

    def failure(self, now: RoundNote, key: str, note: JobNote) -> CaiError:
        """What to raise of a job that did not end well."""
        how = "was cancelled" if note.state == "cancelled" else f"failed: {note.error}"
        return CaiError(
            f"round {now.number}, {key}: the job '{note.id}' {how}; run the same command again to "
            "submit it anew"
        )

    def _note(self, now: RoundNote, key: str) -> JobNote:
        """The job's note; a new one for one that failed, under a new name if it made something."""
        note = now.jobs.get(key, JobNote(body={}))
        if note.state in ("failed", "cancelled") and not _has_passed(note):
            take = note.take + ("policy" in note.result)
            return JobNote(body={}, attempt=note.attempt + 1, take=take)
        return note

    def _send(
        self,
        now: RoundNote,
        key: str,
        note: JobNote,
        request: dict[str, Any],
        names: str | None,
    ) -> None:
        """The request and its key are noted first: a kill after that submits nothing twice."""
        name = f"loop-{self._notes.id}-r{now.number}-{key}"
        if not note.body:
            made = name if note.take == 1 else f"{name}-{note.take}"
            params = {**request["params"], **({} if names is None else {names: made})}
            note.body = {**request, "params": params, "priority": self._priority}
            now.jobs[key] = note
            self._notebook.save(self._notes, now)
        note.id = self._server.submit(note.body, once=f"{name}-{note.attempt}")
        self._notebook.save(self._notes, now)

    def _seen(self, id: str, on_look: Callable[[SeenJob], None]) -> SeenJob:
        try:
            return self._server.wait(id, on_look)
        except NotFoundError as exc:
            raise NotFoundError(
                f"{self._server.url} knows no job '{id}': the loop was begun on {self._notes.url}; "
                "give that --url, or start over with --fresh"
            ) from exc


def _has_passed(note: JobNote) -> bool:
    """Whether the policy was good enough, and only its promotion failed."""
    return bool(note.result.get("gate", {}).get("passed"))
