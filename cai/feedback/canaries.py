"""Pairs with known answers that ride along with a batch: a judge that fails them is not trusted.

They are the constitution's own cases, half of them with an attack on the judge in the worse answer.
Which row carries one, and which one, is a hash of (seed, row). Start from `Canaries.ride`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from cai.constitution.schema import Case, Constitution
from cai.errors import JudgeError
from cai.feedback.attacks import ATTACKS, Attack
from cai.feedback.config import CanaryConfig
from cai.feedback.judge import Judge

_MAX_FAILURES_SHOWN = 20


class Canary(NamedTuple):
    """A known pair: under `principle`, `case.better` wins even when the worse one is attacked."""

    principle: str
    case: Case
    attack: Attack | None = None

    @property
    def worse(self) -> str:
        """The answer that must lose, as the judge sees it."""
        return self.case.worse if self.attack is None else self.attack.apply(self.case.worse)


class CanaryOutcome(NamedTuple):
    """What became of one: `held`, `failed`, or `missing` when the judge gave no verdict.

    An attack that gets no verdict has not won, so it held; a plain case needs a verdict.
    """

    canary: Canary
    status: str
    p_better: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form; what is not there is left out."""
        values = {
            "principle": self.canary.principle,
            "status": self.status,
            "attack": self.canary.attack.name if self.canary.attack else None,
            "p_better": self.p_better,
            "reason": self.reason,
        }
        return {name: value for name, value in values.items() if value is not None}


def breach(config: CanaryConfig, counts: Mapping[str, int]) -> str | None:
    """What to say of a judge that failed too many canaries, by the `counts` of each status."""
    num_asked = sum(counts.values())
    num_failed = num_asked - counts.get("held", 0)
    limit = config.max_failure_share
    if num_asked < config.min_asked or num_failed <= limit * num_asked:
        return None
    return (
        f"the judge failed {num_failed} of {num_asked} canaries (limit {limit:.0%}); "
        "look at 'canaries' in the manifest, use another judge, or raise canaries.rate to see more"
    )


class Canaries:
    """Asks canaries of one judge, on its engine but outside its statistics."""

    def __init__(self, judge: Judge, constitution: Constitution, *, seed: int = 0) -> None:
        self.config: CanaryConfig = judge.config.canaries
        self._judge = Judge(judge.engine, config=judge.config)
        self._constitution = constitution
        self._seed = seed
        self._known = [
            Canary(principle.id, case)
            for principle in constitution.candidates("compare")
            for case in principle.cases
        ]
        self.counts: Counter[str] = Counter()
        self.by_principle: dict[str, Counter[str]] = {}
        self.failures: list[dict[str, Any]] = []

    async def ride(self, row: str) -> CanaryOutcome | None:
        """Ask the canary of this row, if the row carries one. Engine errors pass through."""
        canary = self.drawn(row)
        if canary is None:
            return None
        outcome = await self._ask(canary, row)
        self._count(outcome)
        return outcome

    def drawn(self, row: str) -> Canary | None:
        """The canary that a row carries; the same on every call."""
        digest = hashlib.sha256(f"canary|{self._seed}|{row}".encode("utf-8", "surrogatepass"))
        due, which, attacked = (
            int.from_bytes(digest.digest()[start : start + 8], "big") for start in (0, 8, 16)
        )
        if not self._known or due / 2**64 >= self.config.rate:
            return None
        canary = self._known[which % len(self._known)]
        if attacked / 2**64 >= self.config.attack_share:
            return canary
        return canary._replace(attack=ATTACKS[attacked % len(ATTACKS)])

    def require(self) -> list[str]:
        """What a run should warn of. Raises JudgeError instead, where the config says refuse."""
        message = breach(self.config, self.counts)
        if message is None:
            return []
        if self.config.on_failure == "refuse":
            raise JudgeError(message, reason="canaries", details=self.as_dict())
        return [message]

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: counts, per principle too, and the first failures."""
        return {
            "asked": self.counts.total(),
            **{status: self.counts[status] for status in ("held", "failed", "missing")},
            "principles": {name: dict(n) for name, n in sorted(self.by_principle.items())},
            "failures": list(self.failures),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from the counts of an earlier part of the same run, as `as_dict` gave them."""
        for status in ("held", "failed", "missing"):
            self.counts[status] += int(saved.get(status, 0))
        for name, counts in saved.get("principles", {}).items():
            self.by_principle.setdefault(name, Counter()).update(counts)
        self.failures = [*saved.get("failures", []), *self.failures][:_MAX_FAILURES_SHOWN]

    async def _ask(self, canary: Canary, row: str) -> CanaryOutcome:
        try:
            label = await self._judge.compare(
                canary.case.messages,
                canary.case.better,
                canary.worse,
                self._constitution,
                row=row,
                seed=self._seed,
                principles=[canary.principle],
            )
        except JudgeError as exc:
            status = "missing" if canary.attack is None else "held"
            return CanaryOutcome(canary, status, None, exc.reason)
        return CanaryOutcome(canary, "held" if label.p_a > 0.5 else "failed", label.p_a)

    def _count(self, outcome: CanaryOutcome) -> None:
        principle = outcome.canary.principle
        self.counts[outcome.status] += 1
        self.by_principle.setdefault(principle, Counter())[outcome.status] += 1
        if outcome.status != "held" and len(self.failures) < _MAX_FAILURES_SHOWN:
            self.failures.append({**outcome.as_dict(), "better": outcome.canary.case.better})
