"""What an export can be asked for, and what it reports back."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cai.types import Sampling

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


class BatchOptions(BaseModel):
    """What a request file of `openai-batch` asks of each prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    """Name of the model that is to answer."""

    max_tokens: int | None = Field(default=512, ge=1)
    """Most tokens of an answer; null leaves it to the server."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    """Sampling temperature, 0 to 2."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling, above 0 to 1."""

    n: int = Field(default=1, ge=1, le=16)
    """Answers to each prompt."""

    seed: int | None = Field(default=None, ge=0)
    """Sampling seed, where the server honours one."""

    def sampling(self) -> Sampling:
        """The same as a record."""
        return Sampling(**self.model_dump(exclude={"model"}))


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
