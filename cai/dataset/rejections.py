"""Which errors reject an input and which stop the run, so that neither hides the other.

An input that is too long is rejected. An engine's failure is first held as a suspicion: once
another input goes through, the input was at fault; when many fail in a row, the engine is, and
they stay owed. A run has one `Rejections` for each engine: that one works says nothing of another.
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

Line = dict[str, Any]

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
    """Turns what went wrong on an input into a line of `rejected.jsonl`, or raises it.

    `engine` is what the engine is called in errors.
    """

    def __init__(
        self, writer: RunWriter, config_digest: str, *, engine: str = "the engine"
    ) -> None:
        self._writer = writer
        self._config_digest = config_digest
        self._engine = engine
        self._suspects: list[tuple[Line, Line | None]] = []
        self._last: CaiError | None = None
        self._has_worked = writer.counts.kept > 0

    def reject(
        self,
        row: PromptRow | Skipped,
        *,
        stage: str,
        reason: str,
        detail: str,
        transcript: Line | None = None,
    ) -> None:
        """Reject an input for a reason that is known."""
        self._writer.reject(self._line(row, stage, reason, detail), transcript)

    def failed(
        self, row: PromptRow, error: CaiError, *, stage: str, transcript: Line | None = None
    ) -> None:
        """Reject an input for an error of its own; raise one that every input would meet."""
        stage = error.stage or stage
        detail = error.message[:_MAX_DETAIL]
        if type(error) in _OWN_FAULT:
            line = self._line(row, stage, _OWN_FAULT[type(error)], detail)
            self._writer.reject(line, transcript)
        elif type(error) in _SUSPECT:
            line = self._line(row, stage, _SUSPECT[type(error)], detail)
            self._suspect(line, transcript, error)
        else:
            raise error

    def clear(self) -> None:
        """An input went through: the engine works, so those that failed before were at fault."""
        self._has_worked = True
        if self._suspects:
            suspects, self._suspects = self._suspects, []
            for line, transcript in suspects:
                self._writer.reject(line, transcript)

    def finish(self) -> None:
        """No input is left. Raises when none ever went through: then the engine is at fault."""
        if self._suspects and not self._has_worked:
            raise self._engine_fault()
        self.clear()

    def _suspect(self, line: Line, transcript: Line | None, error: CaiError) -> None:
        self._suspects.append((line, transcript))
        self._last = error
        if len(self._suspects) >= MAX_SUSPECTS:
            raise self._engine_fault() from error

    def _engine_fault(self) -> EngineError:
        return EngineError(
            f"{self._engine} failed on {len(self._suspects)} inputs in a row, last with: "
            f"{self._last}; they stay owed: see to the engine and run the same command again"
        )

    def _line(self, row: PromptRow | Skipped, stage: str, reason: str, detail: str) -> Line:
        return rejected_row(
            row.input_id,
            row.line,
            stage=stage,
            reason=reason,
            detail=detail,
            config_digest=self._config_digest,
        )
