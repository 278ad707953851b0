"""The lines and files of a run directory: names, shapes, and their one encoding.

Rows hold no time and no run-dependent figure, so that the same work gives the same bytes; times
are in the manifest alone. Start from `transcript_row`, `rejected_row`, `encode_row`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cai.critique.records import Transcript
from cai.dataset.prompts import PromptRow
from cai.files import digest_bytes

FORMAT: Final = 1

MANIFEST = "manifest.json"
CONFIG = "config.yaml"
TRANSCRIPTS = "transcripts.jsonl"
ROWS = "rows.jsonl"
REJECTED = "rejected.jsonl"
DONE = "DONE"
LOCK = "lock"


@dataclass(slots=True)
class Counts:
    """Where the inputs of a run stand. Tokens, duplicates and notes are of all its transcripts."""

    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    duplicates: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def num_rejected(self) -> int:
        """Rejected inputs, whatever the reason."""
        return self.rejected.total()

    @property
    def accounted(self) -> int:
        """Inputs that are kept or rejected; the rest is owed."""
        return self.kept + self.num_rejected

    def add_transcript(self, row: Mapping[str, Any]) -> None:
        """Count a kept input by its transcript row."""
        self.kept += 1
        self.add_cost(row)

    def add_cost(self, row: Mapping[str, Any]) -> None:
        """Count what a transcript is of and what it cost, whatever became of its input."""
        self.duplicates += row.get("occurrence", 1) > 1
        if "note" in row:
            self.notes[row["note"]] += 1
        self.prompt_tokens += row["usage"]["prompt_tokens"]
        self.completion_tokens += row["usage"]["completion_tokens"]

    def as_dict(self) -> dict[str, Any]:
        """For the manifest, `DONE` and reports."""
        return {
            "kept": self.kept,
            "rejected": dict(sorted(self.rejected.items())),
            "pairs": self.pairs,
            "duplicates": self.duplicates,
            "notes": dict(sorted(self.notes.items())),
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
            },
        }


def row_id(kind: str, input_id: str, config_digest: str) -> str:
    """Identity of a line: what it is, of which input, under which config; not of its text."""
    return digest_bytes(f"{kind}\n{input_id}\n{config_digest}".encode())


def transcript_row(
    prompt: PromptRow, transcript: Transcript, *, config_digest: str, policy_digest: str | None
) -> dict[str, Any]:
    """One line of `transcripts.jsonl`. What is not there is left out."""
    row: dict[str, Any] = {
        "format": FORMAT,
        "id": row_id("transcript", prompt.input_id, config_digest),
        "input_id": prompt.input_id,
        "line": prompt.line,
    }
    if prompt.source_id is not None:
        row["source_id"] = prompt.source_id
    if prompt.occurrence > 1:
        row["occurrence"] = prompt.occurrence
    if prompt.note is not None:
        row["note"] = prompt.note
    row["prompt"] = [message.as_dict() for message in transcript.prompt]
    row["draft"] = transcript.draft
    if transcript.draft_reasoning is not None:
        row["draft_reasoning"] = transcript.draft_reasoning
    row["draft_finish_reason"] = transcript.draft_finish_reason
    row["steps"] = [step.as_dict() for step in transcript.steps]
    row["answer"] = transcript.answer
    row["constitution"] = {
        "ref": transcript.constitution,
        "digest": transcript.constitution_digest,
    }
    row["policy"] = {"id": transcript.policy, "digest": policy_digest}
    row["usage"] = {
        "prompt_tokens": transcript.usage.prompt_tokens,
        "completion_tokens": transcript.usage.completion_tokens,
    }
    return row


def rejected_row(
    input_id: str, line: int, *, stage: str, reason: str, detail: str, config_digest: str
) -> dict[str, Any]:
    """One line of `rejected.jsonl`. `reason` is stable kebab-case; `detail` holds no user text."""
    return {
        "format": FORMAT,
        "id": row_id("rejected", input_id, config_digest),
        "input_id": input_id,
        "line": line,
        "stage": stage,
        "reason": reason,
        "detail": detail,
    }


def encode_row(row: Mapping[str, Any]) -> bytes:
    """A row as its line of bytes. Text that is no valid Unicode is escaped instead of written."""
    try:
        return _to_json(row).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


_to_json = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode
