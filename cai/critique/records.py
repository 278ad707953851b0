"""What the loop leaves behind: a transcript of a draft and its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cai.types import Conversation, Usage

StepStatus = Literal["revised", "no_change", "unusable"]
StepProblem = Literal["empty", "cut_off", "is_critique", "degenerate"]


@dataclass(frozen=True, slots=True)
class Step:
    """One principle applied to one answer.

    `revised`: `revision` is the new answer. `no_change`: the critique found nothing, there is no
    revision and the loop ended. `unusable`: `problem` says why what the model wrote as a revision
    (kept in `revision_raw`) cannot stand as an answer; the answer before it remains.
    """

    principle: str
    critique: str
    status: StepStatus
    revision: str | None = None
    revision_raw: str | None = None
    problem: StepProblem | None = None
    reasoning: str | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON form; what is None is left out."""
        return {
            name: value
            for name in self.__slots__
            if name != "seconds" and (value := getattr(self, name)) is not None
        }


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation, the draft that answers it, and the steps taken on it."""

    prompt: Conversation
    draft: str
    steps: tuple[Step, ...]
    constitution: str
    constitution_digest: str
    policy: str
    usage: Usage = field(default_factory=Usage)
    draft_reasoning: str | None = None
    draft_finish_reason: str = "stop"
    seed_honoured: bool | None = None

    @property
    def answer(self) -> str:
        """The last usable revision, or the draft."""
        for step in reversed(self.steps):
            if step.status == "revised" and step.revision is not None:
                return step.revision
        return self.draft

    def answer_after(self, num_steps: int) -> str:
        """The answer as it stood after `num_steps` steps; later ones keep an early end's answer."""
        answer = self.draft
        for step in self.steps[:num_steps]:
            if step.status == "revised" and step.revision is not None:
                answer = step.revision
        return answer
