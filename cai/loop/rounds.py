"""The rounds: datasets by the live policy, training on them, the gate, promotion; then again.

Everything is asked of a server by HTTP and noted before and after, so that a kill at any moment
costs nothing but the time. Start from `Loop.run`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cai.errors import CaiError, ConflictError, InputError
from cai.jobs.spec import NAME
from cai.loop.calls import LoopServer
from cai.loop.config import STAGES, LoopConfig, Stage
from cai.loop.jobs import RoundJobs, Watching
from cai.loop.state import Figures, JobNote, LoopNotes, Notebook, Outcome, RoundNote


class Loop:
    """One loop on one server."""

    def __init__(
        self,
        config: LoopConfig,
        server: LoopServer,
        notebook: Notebook,
        notes: LoopNotes,
        *,
        watching: Watching,
    ) -> None:
        self._config = config
        self._server = server
        self._notebook = notebook
        self._notes = notes
        self._jobs = RoundJobs(server, notebook, notes, priority=config.priority, watching=watching)

    def run(self) -> Iterator[RoundNote]:
        """Each round once it is over, those of earlier sessions too.

        Ends early after a rejected policy unless the settings go on. Raises CaiError when a job
        failed: the same loop submits it again.
        """
        self._begin()
        for number in range(1, self._config.rounds + 1):
            now = self._round(number)
            if now.outcome is None:
                self._go_through(now)
            yield now
            if now.outcome == "rejected" and self._config.on_rejected == "stop":
                return

    def _begin(self) -> None:
        """Prompts uploaded, and the policy to begin from live; once."""
        if self._notes.has_begun:
            return
        live = self._server.live()
        if self._notes.file is None:
            self._notes.file = self._server.upload(self._config.prompts)
            self._notebook.save(self._notes)
        wanted = self._config.policy
        if wanted is not None and wanted != live:
            self._server.make_live(wanted, reason="a loop begins from it")
        self._notes.has_begun = True
        self._notebook.save(self._notes)

    def _round(self, number: int) -> RoundNote:
        """The round of that number, begun on what is live now where it is new."""
        if number <= len(self._notes.rounds):
            return self._notes.rounds[number - 1]
        live = self._server.live()
        if not re.fullmatch(NAME.strip("^$"), live):
            raise InputError(
                f"the server answers with '{live}', which no training job can begin from; register "
                "it ('cai policy add') and give it as --policy"
            )
        now = RoundNote(number=number, started_from=live)
        self._notes.rounds.append(now)
        self._notebook.save(self._notes)
        return now

    def _go_through(self, now: RoundNote) -> None:
        """Datasets, measuring, training, promotion."""
        datasets = self._datasets(now)
        people = self._people(now)
        now.before = self._figures_before(now)
        *first, last = STAGES[self._config.method]
        made: dict[str, str] = {}
        for stage in first:
            self._submit_training(now, stage, self._data(stage, datasets, people), made)
            made[stage] = str(self._jobs.ended(now, stage).result["policy"])
        self._finish_round(now, last, self._data(last, datasets, people), made)

    def _datasets(self, now: RoundNote) -> list[str]:
        """A run of each constitution; all are queued before the first is waited for."""
        keys = [f"dataset-{place}" for place, _ in enumerate(self._config.constitutions, start=1)]
        given = self._config.dataset.model_dump(exclude_none=True, exclude={"seed"})
        for key, constitution in zip(keys, self._config.constitutions, strict=True):
            params = {
                "prompts": self._notes.file,
                "constitution": constitution,
                "seed": self._config.dataset.seed + now.number - 1,
                **given,
            }
            self._jobs.submit(now, key, "dataset", params, "run")
        return [str(self._jobs.ended(now, key).result["run"]) for key in keys]

    def _people(self, now: RoundNote) -> str | None:
        """A run of what people said since the last round that went live, if they did."""
        if not self._config.asks_people:
            return None
        after, weight = self._notes.feedback_seen, self._config.feedback_weight
        self._jobs.submit(now, "feedback", "feedback", {"after": after, "weight": weight}, "run")
        result = self._jobs.ended(now, "feedback").result
        return str(result["run"]) if now.num_human else None

    def _figures_before(self, now: RoundNote) -> Figures:
        """The rates of the policy that the round began from, measured once."""
        if not self._config.gate:
            return {}
        known = self._notes.figures
        if now.started_from not in known:
            params = {
                "policy": now.started_from,
                "limits": self._config.limits,
                "placement": self._config.placement,
            }
            self._jobs.submit(now, "gate", "gate", params)
            known[now.started_from] = self._jobs.ended(now, "gate").result["figures"]
        return known[now.started_from]

    def _data(self, stage: Stage, datasets: list[str], people: str | None) -> list[str]:
        """The runs that a training learns from."""
        if people is None or not self._config.takes_pairs(stage):
            return datasets
        return [*datasets, people]

    def _submit_training(
        self, now: RoundNote, stage: Stage, data: list[str], made: dict[str, str], **more: Any
    ) -> None:
        """Queue a training on what the round has made so far; `more` goes beside its parameters."""
        start = now.started_from if stage == "sft" else made["sft"]
        params = self._config.training(stage, data=data, policy=start, reward=made.get("reward"))
        told = params.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        self._jobs.submit(now, stage, "train", told, "name", **more)

    def _finish_round(
        self, now: RoundNote, stage: Stage, data: list[str], made: dict[str, str]
    ) -> None:
        """The last training, whose policy goes live or is rejected."""
        gate = {"auto_promote": self._config.limits} if self._config.gate else {}
        self._submit_training(now, stage, data, made, **gate)
        job = self._jobs.ended(now, stage, may_have_failed=True)
        verdict = job.result.get("gate", {})
        if job.state != "succeeded" and not verdict.get("passed"):
            raise self._jobs.failure(now, stage, job)
        if self._config.gate and not verdict:
            raise CaiError(f"round {now.number}, {stage}: the job '{job.id}' had no gate; --fresh")
        now.policy = str(job.result["policy"])
        if verdict:
            now.after = self._notes.figures[now.policy] = verdict["figures"]
        if verdict and not verdict["passed"]:
            now.reasons, now.outcome = [str(reason) for reason in verdict["reasons"]], "rejected"
        else:
            now.outcome = self._promoted(now, now.policy, job)
        self._notebook.save(self._notes, now)

    def _promoted(self, now: RoundNote, policy: str, job: JobNote) -> Outcome:
        """`live`, or `rejected` where the engine does not answer as the trainer's model did."""
        if job.result.get("promoted"):
            return "live"
        told, state = job.error or "", self._server.state_of(policy)
        if state in ("candidate", "verified"):
            try:
                self._server.make_live(policy, reason=f"round {now.number} of a loop")
                state = "live"
            except CaiError as exc:
                told, state = exc.message, self._server.state_of(policy)
                if state not in ("live", "rejected"):
                    raise
        if state == "live":
            return "live"
        if state != "rejected":
            raise ConflictError(
                f"round {now.number}: '{policy}' is {state}, by someone else's hand; 'cai policy "
                f"show {policy}' tells why"
            )
        now.reasons = [told]
        return "rejected"
