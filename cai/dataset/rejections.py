"""Which errors reject an input and which stop the run, so that neither hides the other.

An input that is too long is rejected. An engine's failure is first held as a suspicion: once
another input goes through, the input was at fault; when many fail in a row, the engine is, and
they stay owed. Start from `Rejections`.
"""

from __future__ import annotations

from typing import Any

from cai.dataset.prompts import PromptRow, Skipped
from cai.dataset.records import rejected_row
from cai.dataset.writer import RunWriter
from cai.errors import (
    CaiError,
    ContextLengthError,
    EngineError,
    EngineTimeoutError,
    InputError,
    PromptError,
)

MAX_SUSPECTS = 64
_MAX_DETAIL = 300

_OWN_FAULT: dict[type[CaiError], str] = {
    ContextLengthError: "context-length",
    PromptError: "unusable-prompt",
}
_SUSPECT: dict[type[CaiError], str] = {
    EngineTimeoutError: "engine-timeout",
    EngineError: "engine-error",
    InputError: "refused",  # this class itself: its kinds are settings, the same for all inputs
}


class Rejections:
    """Turns what went wrong on an input into a line of `rejected.jsonl`, or raises it."""

    def __init__(self, writer: RunWriter, config_digest: str) -> None:
        self._writer = writer
        self._config_digest = config_digest
        self._suspects: list[dict[str, Any]] = []
        self._last: CaiError | None = None

    def reject(
        self,
        row: PromptRow | Skipped,
        *,
        stage: str,
        reason: str,
        detail: str,
        transcript: dict[str, Any] | None = None,
    ) -> None:
        """Reject an input for a reason that is known."""
        self._writer.reject(self._line(row, stage, reason, detail), transcript)

    def failed(self, row: PromptRow, error: CaiError, *, stage: str) -> None:
        """Reject an input for an error of its own; raise one that every input would meet."""
        stage = error.stage or stage
        detail = error.message[:_MAX_DETAIL]
        if type(error) in _OWN_FAULT:
            self.reject(row, stage=stage, reason=_OWN_FAULT[type(error)], detail=detail)
        elif type(error) in _SUSPECT:
            self._suspect(self._line(row, stage, _SUSPECT[type(error)], detail), error)
        else:
            raise error

    def clear(self) -> None:
        """An input went through: the engine works, so those that failed before were at fault."""
        suspects, self._suspects = self._suspects, []
        for line in suspects:
            self._writer.reject(line)

    def finish(self) -> None:
        """No input is left. Raises when none ever went through: then the engine is at fault."""
        if self._suspects and self._writer.counts.kept == 0:
            raise _engine_fault(len(self._suspects), self._last)
        self.clear()

    def _suspect(self, line: dict[str, Any], error: CaiError) -> None:
        self._suspects.append(line)
        self._last = error
        if len(self._suspects) >= MAX_SUSPECTS:
            raise _engine_fault(MAX_SUSPECTS, error) from error

    def _line(
        self, row: PromptRow | Skipped, stage: str, reason: str, detail: str
    ) -> dict[str, Any]:
        return rejected_row(
            row.input_id,
            row.line,
            stage=stage,
            reason=reason,
            detail=detail,
            config_digest=self._config_digest,
        )


def _engine_fault(num_failed: int, last: CaiError | None) -> EngineError:
    return EngineError(
        f"the engine failed on {num_failed} inputs in a row, last with: {last}; they stay owed: "
        "see to the engine and run the same command again"
    )
