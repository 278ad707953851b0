"""What an export can be asked for, and what it reports back."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FileType = Literal["jsonl", "parquet"]
Extra = Literal["id", "input_id", "p_chosen", "source", "weight"]


class ExportOptions(BaseModel):
    """Choices that hold for every export; those that a format has no use for are refused there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    test_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of prompts in the test split, by a hash of the prompt: one prompt, one split."""

    file_type: FileType = "jsonl"
    """Type of the files of a folder; a single file goes by its name."""

    margin: bool = False
    """`trl`: add the log-odds of `p_chosen` as `margin`; TRL's reward trainer then uses it."""

    extra: tuple[Extra, ...] = ()
    """`trl` and `trl-unpaired`: columns of the row to carry along."""

    min_p_chosen: float = Field(default=0.5, ge=0, le=1)
    """Least `p_chosen` of an exported row."""


class ExportReport:
    """What was written: rows per split, and rows left out by reason."""

    def __init__(self) -> None:
        self.splits: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.files: dict[str, str] = {}

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "splits": dict(self.splits),
            "left_out": dict(sorted(self.left_out.items())),
            "files": dict(self.files),
        }
