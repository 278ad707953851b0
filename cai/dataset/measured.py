"""What the judge showed over a run, counted from the same lines that are written to its files.

So a resumed run's figures cover all its rows, and equal those of a run that was never broken.
Memory does not grow with the rows. Start from `Measured`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cai.dataset.records import ROWS, TRANSCRIPTS
from cai.errors import JudgeError
from cai.feedback.calibration import Calibration
from cai.feedback.canaries import breach
from cai.feedback.config import JudgeConfig
from cai.feedback.tally import Tally
from cai.files import read_jsonl

_OUTCOMES = ("held", "failed", "missing")


class Measured:
    """Statistics of the judge, and the canaries' outcomes. `judge` is its model's name.

    A comparison without any label names no judge: it counts for the one judge that gave labels,
    or for `judge` where none or several did.
    """

    def __init__(self, judge: str) -> None:
        self._judge = judge
        self._stats = Calibration()
        self._missed: Counter[str] = Counter()
        self._canaries: dict[str, Counter[str]] = {}

    def read(self, folder: Path) -> None:
        """Count what the files of a run already hold."""
        self.add_pairs(read_jsonl(folder / ROWS))
        for line in read_jsonl(folder / TRANSCRIPTS):
            self.add_transcript(line)

    def add_pairs(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count preference rows."""
        for row in rows:
            self._stats.observe_row(row["label"], row["p_chosen"])

    def add_transcript(self, line: Mapping[str, Any]) -> None:
        """Count what stands beside a transcript: comparisons without a row, and its canary."""
        if canary := line.get("canary"):
            counts = self._canaries.setdefault(canary["principle"], Counter())
            counts[canary["status"]] += 1
        for pair in line.get("left_out", ()):
            if "label" in pair:
                refused = pair["reason"] if pair.get("refused") else None
                self._stats.observe_row(pair["label"], pair["p_chosen"], refused=refused)
            else:
                self._missed[pair["reason"]] += 1

    def require(self, config: JudgeConfig) -> list[str]:
        """What the run should warn of. Raises JudgeError where the config says refuse."""
        warnings = self._stats.breaches(config.limits)
        if warnings and config.limits.on_breach == "refuse":
            raise JudgeError(
                f"{'; '.join(warnings)}. What was judged so far stays: use another judge for a new "
                "run, or set judging.limits otherwise and run the same command again",
                reason="limits",
            )
        failed = breach(config.canaries, self._canary_counts())
        if failed is None:
            return warnings
        if config.canaries.on_failure == "refuse":
            raise JudgeError(failed, reason="canaries")
        return [*warnings, failed]

    def as_dict(self) -> dict[str, Any]:
        """`judge_stats` and `canaries` of the manifest."""
        counts = self._canary_counts()
        return {
            "judge_stats": self._all_stats().as_dict(),
            "canaries": {
                "asked": counts.total(),
                **{outcome: counts[outcome] for outcome in _OUTCOMES},
                "principles": {
                    name: dict(sorted(found.items()))
                    for name, found in sorted(self._canaries.items())
                },
            },
        }

    def _canary_counts(self) -> Counter[str]:
        return sum(self._canaries.values(), Counter())

    def _all_stats(self) -> Calibration:
        everything = Calibration()
        everything.merge(self._stats)
        if self._missed:
            names = list(self._stats.judges)
            missed = Calibration()
            name = names[0] if len(names) == 1 else self._judge
            missed.judges[name] = Tally(refused=Counter(self._missed))
            everything.merge(missed)
        return everything
