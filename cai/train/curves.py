"""Learning curves as JSONL: a line per report, `{"step": …, name: value, …}`, as it comes.

Resume drops the lines after the step that training goes on from, so the file of a run that was
killed is that of an unbroken one. Light. Start from `Curves(run_dir)`; `read_curves` reads one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.errors import DataError
from cai.files import drop_torn_line, read_jsonl, replace_text

NAME = "curves.jsonl"

Row = dict[str, float]


class Curves:
    """Appends to a run's `curves.jsonl`; `after` is the step that training goes on from."""

    def __init__(self, run_dir: Path, *, after: int = 0) -> None:
        self.path = run_dir / NAME
        drop_torn_line(self.path)
        self._keep_up_to(after)
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as exc:
            raise DataError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """One line. What is no finite number was not measured, and is left out."""
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
        }
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Let the file go. Repeated calls do nothing."""
        self._file.close()

    def _keep_up_to(self, step: int) -> None:
        rows = read_curves(self.path.parent)
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            replace_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def read_curves(run_dir: Path) -> list[Row]:
    """Every line of a run's curves, in order; none when there is no file."""
    return list(read_jsonl(run_dir / NAME))
