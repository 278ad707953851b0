"""What the rows of a data set amount to, counted in one pass: for cards and reports.

Memory does not grow with the rows. Start from `survey`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cai.dataset.preferences import answer_text
from cai.feedback.calibration import Calibration

NUM_MARGIN_BINS = 20


@dataclass(slots=True)
class Facts:
    """Counts over preference rows. `margins` are of |2p - 1| in twenty equal bins."""

    num_pairs: int = 0
    num_turns: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    principles: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    constitutions: Counter[tuple[str, str]] = field(default_factory=Counter)
    margins: list[int] = field(default_factory=lambda: [0] * NUM_MARGIN_BINS)
    num_longer_chosen: int = 0
    chars_chosen: int = 0
    chars_rejected: int = 0
    judge: Calibration = field(default_factory=Calibration)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row."""
        self.num_pairs += 1
        self.num_turns[len(row["prompt"])] += 1
        self.sources[row["source"]] += 1
        margin = min(1.0, abs(2 * row["p_chosen"] - 1))
        self.margins[min(NUM_MARGIN_BINS - 1, int(margin * NUM_MARGIN_BINS))] += 1
        chosen, rejected = len(answer_text(row["chosen"])), len(answer_text(row["rejected"]))
        self.chars_chosen += chosen
        self.chars_rejected += rejected
        self.num_longer_chosen += chosen > rejected
        if policy := row.get("policy"):
            self.policies[policy["id"]] += 1
        if constitution := row.get("constitution"):
            self.constitutions[constitution["ref"], constitution["digest"]] += 1
        if (label := row.get("label")) and "judge" in label:
            self.principles.update(label["principles"])
            self.judge.observe_row(label, row["p_chosen"])

    @property
    def share_longer_chosen(self) -> float | None:
        """Share of pairs whose chosen answer is the longer one: length bias shows here."""
        return self.num_longer_chosen / self.num_pairs if self.num_pairs else None


def survey(rows: Iterable[Mapping[str, Any]]) -> Facts:
    """The facts of all rows."""
    facts = Facts()
    for row in rows:
        facts.add(row)
    return facts
