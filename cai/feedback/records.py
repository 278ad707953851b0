"""What a judge leaves behind: the label of one pair, with all that it was computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cai.feedback.labels import PairRead, Vote, clamp, scale
from cai.types import Usage

Side = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class PairLabel:
    """The verdict on a pair `a`, `b`: never a guess, and traceable to its log-probs.

    `read` holds both orders, combined over `votes` (one per principle asked); `decided_by` are the
    ids of the principles that made the label. `missing` names principles that gave no verdict, and
    why. `talks_to_judge` names the sides whose text addresses the judge.
    """

    read: PairRead
    votes: tuple[Vote, ...]
    decided_by: tuple[str, ...]
    template: str
    policy: str
    policy_digest: str | None
    clamp: tuple[float, float] | None = None
    temperature: float = 1.0
    missing: Mapping[str, str] = field(default_factory=dict)
    talks_to_judge: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)

    @property
    def p_a(self) -> float:
        """Probability that `a` is preferred: the mean of both orders, then scaled and clamped."""
        p = scale(self.read.p_a, self.temperature)
        return p if self.clamp is None else clamp(p, *self.clamp)

    @property
    def chosen(self) -> Side:
        """The preferred side; `a` on an exact tie, which a judge refuses as a label."""
        return "a" if self.p_a >= 0.5 else "b"

    @property
    def p_chosen(self) -> float:
        """Probability of the preferred side: 0.5 to 1."""
        return max(self.p_a, 1 - self.p_a)

    @property
    def margin(self) -> float:
        """How far the label is from undecided, from 0 to 1."""
        return abs(2 * self.p_a - 1)

    @property
    def position_bias(self) -> float:
        """P(the answer shown first), averaged over both orders, less 0.5."""
        return self.read.position_bias

    @property
    def flips(self) -> bool:
        """Whether the verdict went with the position and not with the answer."""
        return self.read.flips

    def swapped(self) -> PairLabel:
        """The same label with `a` and `b` exchanged."""
        other = {"a": "b", "b": "a"}
        return replace(
            self,
            read=self.read.swapped(),
            votes=tuple(replace(vote, read=vote.read.swapped()) for vote in self.votes),
            talks_to_judge=tuple(sorted(other[side] for side in self.talks_to_judge)),
        )

    def seen_from_chosen(self) -> PairLabel:
        """The same label with the preferred answer as `a`."""
        return self if self.chosen == "a" else self.swapped()

    def as_row_label(self) -> dict[str, Any]:
        """The `label` object of a preference row: both orders seen from the chosen answer."""
        return self.seen_from_chosen().as_dict()

    def as_dict(self) -> dict[str, Any]:
        """JSON form with `a` as the chosen answer: see `as_row_label`.

        What does not apply (votes of a single principle, no clamp, temperature 1) is left out.
        """
        row: dict[str, Any] = {
            **self.read.as_dict(),
            "principles": list(self.decided_by),
            "template": self.template,
            "judge": {"policy": self.policy, "digest": self.policy_digest},
        }
        if len(self.votes) > 1:
            row["votes"] = [_vote_dict(vote) for vote in self.votes]
        if self.clamp is not None:
            row["clamp"] = list(self.clamp)
        if self.temperature != 1.0:
            row["temperature"] = self.temperature
        if self.missing:
            row["missing"] = dict(self.missing)
        if self.talks_to_judge:
            row["talks_to_judge"] = [
                "chosen" if side == "a" else "rejected" for side in self.talks_to_judge
            ]
        return row


def _vote_dict(vote: Vote) -> dict[str, Any]:
    return {"principle": vote.principle, "weight": vote.weight, **vote.read.as_dict()}
