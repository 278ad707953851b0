"""From the answers to one prompt to its preference rows: which pairs, in which order, and why not.

The answers are the draft, further samples, and the usable revisions. A revision is chosen only
where the judge prefers it. What was compared and gave no row is told beside the transcript, so
that a run's statistics can be counted from its files alone. Start from `PairMaker.make`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.schema import Constitution
from cai.critique.records import Transcript
from cai.dataset.preferences import preference_row
from cai.dataset.prompts import PromptRow
from cai.dataset.records import ROWS, TRANSCRIPTS
from cai.errors import JudgeError
from cai.feedback.calibration import Calibration
from cai.feedback.canaries import Canaries
from cai.feedback.config import RankingConfig
from cai.feedback.judge import Judge
from cai.feedback.ranking import MAX_ANSWERS, ChosenPair, choose_pairs, rank
from cai.feedback.records import PairLabel
from cai.files import read_jsonl


class Answer(NamedTuple):
    """An answer and how it came to be: `draft`, `sample-2` …, `revision-1` and so on."""

    origin: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging one input gave. Without rows, `reason` and `detail` say why.

    `beside` are keys for the input's transcript row: comparisons without a row, and its canary.
    """

    rows: list[dict[str, Any]]
    beside: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    detail: str = ""


class PairMaker:
    """Makes the preference rows of one run. Safe for many concurrent calls."""

    def __init__(
        self,
        judge: Judge,
        constitution: Constitution,
        *,
        ranking: RankingConfig,
        seed: int,
        policy_digest: str | None,
    ) -> None:
        self.judge = judge
        self.canaries = Canaries(judge, constitution, seed=seed)
        self._constitution = constitution
        self._ranking = ranking
        self._seed = seed
        self._policy_digest = policy_digest

    async def make(
        self, prompt: PromptRow, transcript: Transcript, samples: Sequence[str] = ()
    ) -> Judged:
        """The rows of one input. Engine errors pass through; a missing verdict is a reason."""
        canary = await self.canaries.ride(prompt.input_id)
        told = {} if canary is None else {"canary": [canary.canary.principle, canary.status]}
        answers = answers_of(transcript, samples)
        if len(answers) < 2:
            reason, detail = _why_one(transcript)
            return Judged([], told, reason, detail)
        try:
            pairs, beside = await self._compare(prompt, answers)
        except JudgeError as exc:
            beside = _left_out_of(answers, exc)
            return Judged([], {**told, **beside}, exc.reason, exc.message[:300])
        rows = [self._row(prompt, transcript, answers, pair) for pair in pairs]
        if not rows:
            reason = beside["left_out"][0]["reason"] if beside else "no-pair"
            return Judged([], {**told, **beside}, reason, "no pair of the ranking can be used")
        return Judged(rows, {**told, **beside})

    async def _compare(
        self, prompt: PromptRow, answers: Sequence[Answer]
    ) -> tuple[list[ChosenPair], dict[str, Any]]:
        if len(answers) == 2:  # one question needs no ranking
            label = await self.judge.compare(
                prompt.messages,
                answers[0].text,
                answers[1].text,
                self._constitution,
                row=prompt.input_id,
                seed=self._seed,
            )
            if label.margin < self._ranking.min_margin:
                return [], {"left_out": [_left_out(answers, 0, 1, "small-margin", label)]}
            better = 0 if label.chosen == "a" else 1
            return [ChosenPair(better, 1 - better, label.seen_from_chosen())], {}
        ranking = await rank(
            self.judge,
            prompt.messages,
            [answer.text for answer in answers],
            self._constitution,
            row=prompt.input_id,
            seed=self._seed,
            config=self._ranking,
        )
        choice = choose_pairs(ranking, self._ranking.pairs, min_margin=self._ranking.min_margin)
        used = {(min(p.chosen, p.rejected), max(p.chosen, p.rejected)) for p in choice.pairs}
        why = {(min(i, j), max(i, j)): reason for i, j, reason in choice.left_out}
        left_out = [
            _left_out(answers, i, j, why.get((i, j), "not-wanted"), label)
            for (i, j), label in ranking.labels.items()
            if (i, j) not in used
        ]
        left_out += [
            _left_out(answers, i, j, reason, measured=ranking.measured.get((i, j), {}))
            for (i, j), reason in ranking.failed.items()
        ]
        beside: dict[str, Any] = {"left_out": left_out} if left_out else {}
        if ranking.cycles:
            beside["cycles"] = [[answers[i].origin for i in group] for group in ranking.cycles]
        if ranking.excluded:
            beside["excluded"] = {answers[i].origin: why for i, why in ranking.excluded.items()}
        return choice.pairs, beside

    def _row(
        self,
        prompt: PromptRow,
        transcript: Transcript,
        answers: Sequence[Answer],
        pair: ChosenPair,
    ) -> dict[str, Any]:
        chosen, rejected = answers[pair.chosen], answers[pair.rejected]
        return preference_row(
            prompt=transcript.prompt,
            chosen=chosen.text,
            rejected=rejected.text,
            p_chosen=pair.label.p_chosen,
            source="ai",
            input_id=prompt.input_id,
            label=pair.label.as_row_label(),
            constitution={
                "ref": transcript.constitution,
                "digest": transcript.constitution_digest,
            },
            policy={"id": transcript.policy, "digest": self._policy_digest},
            origin={"chosen": chosen.origin, "rejected": rejected.origin},
            transcript={
                "draft": transcript.draft,
                "steps": [step.as_dict() for step in transcript.steps],
            },
        )


def answers_of(transcript: Transcript, samples: Iterable[str]) -> list[Answer]:
    """What can be compared, the draft first, each text once, at most nine."""
    revisions = [
        Answer(f"revision-{number}", step.revision)
        for number, step in enumerate(transcript.steps, start=1)
        if step.status == "revised" and step.revision is not None
    ]
    drawn = [Answer(f"sample-{number}", text) for number, text in enumerate(samples, start=2)]
    found: dict[str, Answer] = {}
    for answer in (Answer("draft", transcript.draft), *drawn, *revisions):
        if answer.text.strip():
            found.setdefault(" ".join(answer.text.split()), answer)
    return list(found.values())[:MAX_ANSWERS]


def measure_run(folder: Path, judge: str) -> tuple[Calibration, dict[str, int]]:
    """The statistics of `judge` and the canaries' outcomes over a whole run, from its files."""
    stats, canaries = Calibration(), dict.fromkeys(("held", "failed", "missing"), 0)
    for row in read_jsonl(folder / ROWS):
        stats.observe_row(row["label"], row["p_chosen"])
    for row in read_jsonl(folder / TRANSCRIPTS):
        if canary := row.get("canary"):
            canaries[canary[1]] += 1
        for pair in row.get("left_out", ()):
            if "label" in pair:
                refused = pair["reason"] if pair.get("refused") else None
                stats.observe_row(pair["label"], pair["p_chosen"], refused=refused)
            else:
                stats.miss(judge, pair["reason"])
    return stats, canaries


def _why_one(transcript: Transcript) -> tuple[str, str]:
    """Why an input has a single answer, and so no pair."""
    if not transcript.steps:
        return "one-answer", "all answers are the same, and no revision was asked for"
    last = transcript.steps[-1]
    if last.status == "no_change":
        return "no-change", "the critique found nothing to change, so there is no second answer"
    if last.status == "unusable":
        return "unusable-revision", f"the revision cannot stand as an answer: {last.problem}"
    return "unchanged", "the revision says what the draft said"


def _left_out_of(answers: Sequence[Answer], error: JudgeError) -> dict[str, Any]:
    """What was measured on an input before it got no label at all."""
    details = error.details
    if len(answers) == 2:
        return {"left_out": [_left_out(answers, 0, 1, error.reason, measured=details)]}
    labels: Any = details.get("labels", {})
    failed: Any = details.get("failed", {})
    measured: Any = details.get("measured", {})
    left_out = [_left_out(answers, i, j, "not-linked", label) for (i, j), label in labels.items()]
    left_out += [
        _left_out(answers, i, j, reason, measured=measured.get((i, j), {}))
        for (i, j), reason in failed.items()
    ]
    return {"left_out": left_out} if left_out else {}


def _left_out(
    answers: Sequence[Answer],
    i: int,
    j: int,
    reason: str,
    label: PairLabel | None = None,
    *,
    measured: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A comparison that made no row. `refused` marks one that the judge's limits refused."""
    told: dict[str, Any] = {"a": answers[i].origin, "b": answers[j].origin, "reason": reason}
    if label is not None:
        return told | {"p_chosen": label.p_chosen, "label": label.as_row_label()}
    if measured and "label" in measured:
        return told | {
            "refused": True,
            "p_chosen": measured["p_chosen"],
            "label": measured["label"],
        }
    return told
