"""Which principle's change made a label flip. Pure functions over votes that were cast.

Under `sample` the draw tells: a pair went to another principle because that one gained or its own
lost, or the one that it stayed with was reworded. Otherwise each change is taken back alone, and
those without which there would be no flip are its causes. Start from `Causes.of`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cai.constitution.diff import ConstitutionDiff
from cai.constitution.schema import Composition, Constitution, Principle
from cai.errors import JudgeError
from cai.feedback import labels
from cai.feedback.config import JudgeConfig
from cai.feedback.labels import Vote
from cai.feedback.records import PairLabel

COMPOSITION = "composition"
"""Stands among the causes for a changed composition rule."""

_MATTERS = frozenset({"compare", "weight", "tags", "place"})


class Causes:
    """What changed between two constitutions that can move a label."""

    def __init__(
        self, old: Constitution, new: Constitution, diff: ConstitutionDiff, config: JudgeConfig
    ) -> None:
        self._old, self._new = old, new
        self._compositions = (
            config.composition or old.composition,
            config.composition or new.composition,
        )
        self._band = config.decided_band
        self.changed = tuple(
            one.id
            for one in diff.principles
            if one.kind in ("added", "removed")
            or any(change.key in _MATTERS for change in one.changes)
        )

    def of(self, old: PairLabel, new: PairLabel) -> tuple[str, ...]:
        """The causes of a flip: ids of principles, or `COMPOSITION`; never empty."""
        if self._compositions[0] != self._compositions[1]:
            return (COMPOSITION,)
        if self._compositions[1] == "sample":
            found = self._drawn(old, new)
        else:
            found = tuple([id for id in self.changed if self._is_cause(id, old, new)])
        involved = {vote.principle for vote in (*old.votes, *new.votes)}
        joint = tuple([id for id in self.changed if id in involved])
        return found or joint or self.changed or (COMPOSITION,)

    def _drawn(self, old: PairLabel, new: PairLabel) -> tuple[str, ...]:
        """A change of the principle that took the pair explains it; else of the one that lost."""
        before = {vote.principle for vote in old.votes}
        after = {vote.principle for vote in new.votes}
        gained = [
            id for id in self.changed if id in after and self._gained(id, stayed=id in before)
        ]
        lost = [id for id in self.changed if id in before - after]
        return tuple(gained or lost)

    def _gained(self, id: str, *, stayed: bool) -> bool:
        """Whether a principle that votes now was reworded, is new, or draws more than before."""
        before, after = _find(self._old, id), _find(self._new, id)
        if before is None or after is None or stayed:
            return True
        return after.weight > before.weight or before.compare is None

    def _is_cause(self, id: str, old: PairLabel, new: PairLabel) -> bool:
        """Whether the new constitution with this change taken back would prefer as the old did."""
        votes = {vote.principle: vote for vote in new.votes}
        order = [one.id for one in self._new.candidates("compare")]
        was = {vote.principle: vote for vote in old.votes}.get(id)
        before = [one.id for one in self._old.candidates("compare")]
        votes.pop(id, None)
        if id in order:
            order.remove(id)
        if was is not None:
            votes[id] = was
            order.insert(_place(id, before, order), id)
        cast = [votes[one] for one in order if one in votes]
        p_a = _label(cast, self._compositions[1], self._band)
        return p_a is not None and (p_a >= 0.5) == (old.p_a >= 0.5)


def _place(id: str, before: Sequence[str], order: Sequence[str]) -> int:
    """Where a principle goes back to: behind the nearest of those that stood before it."""
    for earlier in reversed(before[: before.index(id)]):
        if earlier in order:
            return order.index(earlier) + 1
    return 0


def _label(votes: Sequence[Vote], composition: Composition, band: float) -> float | None:
    try:
        return labels.combine(votes, composition, band=band).read.p_a
    except JudgeError:
        return None


def _find(constitution: Constitution, id: str) -> Principle | None:
    return next((one for one in constitution.principles if one.id == id), None)
