"""From the answers to one prompt to its preference rows: which pairs, in which order, and why not.

The answers are the draft, further samples, and the usable revisions. A revision is chosen only
where the judge prefers it. What was compared and gave no row is told beside the transcript, so
that a run's statistics can be counted from its files alone. Start from `PairMaker.make`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cai.constitution.schema import Constitution
from cai.critique.records import Transcript
from cai.dataset.preferences import preference_row
from cai.dataset.prompts import PromptRow
from cai.errors import JudgeError
from cai.feedback.canaries import Canaries
from cai.feedback.config import RankingConfig
from cai.feedback.judge import Judge
from cai.feedback.ranking import MAX_ANSWERS, ChosenPair, Ranking, choose_pairs, rank
from cai.feedback.records import PairLabel


class Answer(NamedTuple):
    """An answer and how it came to be: `draft`, `sample-2` …, `revision-1` and so on."""

    origin: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging one input gave. Without rows, `reason` and `detail` say why.

    `beside` are keys for the input's transcript row: `left_out` (comparisons without a row; `a` is
    the answer that the judge preferred where it has a label, `refused` marks a label that its
    limits refused), `ranking`, `cycles` and `excluded` (of three answers or more), and `canary`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    beside: dict[str, Any] = field(default_factory=dict)
    reason: str = "no-pair"
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
        self._canaries = Canaries(judge, constitution, seed=seed)
        self._constitution = constitution
        self._ranking = ranking
        self._seed = seed
        self._policy_digest = policy_digest

    async def make(
        self, prompt: PromptRow, transcript: Transcript, samples: Sequence[str] = ()
    ) -> Judged:
        """The rows of one input. Engine errors pass through; a missing verdict is a reason."""
        canary = await self._canaries.ride(prompt.input_id)
        told = {} if canary is None else {"canary": canary.as_dict()}
        answers = answers_of(transcript, samples)
        if len(answers) < 2:
            reason, detail = _why_one(transcript)
            return Judged([], told, reason, detail)
        try:
            found = await (
                self._compare(prompt, answers) if len(answers) == 2 else self._rank(prompt, answers)
            )
        except JudgeError as exc:
            return Judged([], told | _left_out_by(answers, exc), exc.reason, exc.message[:300])
        if not found.pairs:
            detail = f"{len(answers)} answers were compared and no pair of them can be used"
            return Judged([], told | found.beside, found.reason, detail)
        rows = [self._row(prompt, transcript, answers, pair) for pair in found.pairs]
        return Judged(rows, told | found.beside)

    async def _compare(self, prompt: PromptRow, answers: Sequence[Answer]) -> _Found:
        """Two answers: one question, no ranking."""
        label = await self.judge.compare(
            prompt.messages,
            answers[0].text,
            answers[1].text,
            self._constitution,
            row=prompt.input_id,
            seed=self._seed,
        )
        if label.margin < self._ranking.min_margin:
            reason = "small-margin"
            return _Found([], {"left_out": [_labelled(answers, 0, 1, reason, label)]}, reason)
        better = 0 if label.chosen == "a" else 1
        return _Found([ChosenPair(better, 1 - better, label)], {})

    async def _rank(self, prompt: PromptRow, answers: Sequence[Answer]) -> _Found:
        """Three answers or more: all in one order, and the pairs of it that training wants."""
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
        used = {_edge(pair.chosen, pair.rejected) for pair in choice.pairs}
        why = {_edge(better, worse): reason for better, worse, reason in choice.left_out}
        left_out = [
            _labelled(answers, *edge, why.get(edge, "not-wanted"), label)
            for edge, label in ranking.labels.items()
            if edge not in used
        ]
        left_out += _failures(answers, ranking.failed, ranking.measured)
        beside = _order_of(answers, ranking) | ({"left_out": left_out} if left_out else {})
        reason = choice.left_out[0][2] if choice.left_out else "no-pair"
        return _Found(choice.pairs, beside, reason)

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


class _Found(NamedTuple):
    """Pairs to keep; `reason` says why there is none, where there is none."""

    pairs: list[ChosenPair]
    beside: dict[str, Any]
    reason: str = "no-pair"


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


def _order_of(answers: Sequence[Answer], ranking: Ranking) -> dict[str, Any]:
    """What a ranking says beyond its pairs, by the answers' origins, the best first."""
    names = [answer.origin for answer in answers]
    told: dict[str, Any] = {
        "ranking": [
            {"answer": names[i], "score": ranking.scores[i], "error": ranking.errors[i]}
            for i in ranking.order
        ]
    }
    if ranking.cycles:
        told["cycles"] = [[names[i] for i in group] for group in ranking.cycles]
    if ranking.excluded:
        told["excluded"] = {names[i]: why for i, why in ranking.excluded.items()}
    return told


def _left_out_by(answers: Sequence[Answer], error: JudgeError) -> dict[str, Any]:
    """What was measured on an input before it got no label at all."""
    details: Mapping[str, Any] = error.details
    if len(answers) == 2:
        return {"left_out": [_unlabelled(answers, 0, 1, error.reason, details)]}
    left_out = [
        _labelled(answers, i, j, "not-linked", label)
        for (i, j), label in details.get("labels", {}).items()
    ]
    left_out += _failures(answers, details.get("failed", {}), details.get("measured", {}))
    return {"left_out": left_out} if left_out else {}


def _failures(
    answers: Sequence[Answer],
    failed: Mapping[tuple[int, int], str],
    measured: Mapping[tuple[int, int], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    return [
        _unlabelled(answers, *edge, reason, measured.get(edge, {}))
        for edge, reason in failed.items()
    ]


def _labelled(
    answers: Sequence[Answer], i: int, j: int, reason: str, label: PairLabel
) -> dict[str, Any]:
    """A comparison with a label that makes no row."""
    better, worse = (i, j) if label.chosen == "a" else (j, i)
    names = {"a": answers[better].origin, "b": answers[worse].origin}
    return names | {"reason": reason, "p_chosen": label.p_chosen, "label": label.as_row_label()}


def _unlabelled(
    answers: Sequence[Answer], i: int, j: int, reason: str, measured: Mapping[str, Any]
) -> dict[str, Any]:
    """A comparison without a label; `measured` is what the judge read before it was refused."""
    better, worse = (j, i) if measured.get("preferred") == "b" else (i, j)
    told = {"a": answers[better].origin, "b": answers[worse].origin, "reason": reason}
    if "label" not in measured:
        return told
    read = {"p_chosen": measured["p_chosen"], "label": measured["label"]}
    return told | {"refused": True, **read}


def _edge(i: int, j: int) -> tuple[int, int]:
    return min(i, j), max(i, j)
