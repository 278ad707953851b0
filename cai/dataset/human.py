"""People's labels beside a judge's: rankings into pairs, labelers into a consensus, both merged.

A human label overrides a judge's on the same pair, and scores the judge at the same time.
Start from `pairs_of_ranking`, `consensus` and `merge`; `agreement` says how far labelers agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

from cai.dataset.conversations import UnusableRow, check_text, read_messages
from cai.dataset.preferences import pair_key, preference_row
from cai.feedback.calibration import Calibration
from cai.feedback.records import Side
from cai.files import digest_json
from cai.stats.agreement import cohen_kappa, fleiss_kappa, share_agreed
from cai.types import Conversation, Message

MIN_OUTPUTS, MAX_OUTPUTS = 2, 9
_LETTERS = "ABCDEFGHI"
_RANKING = re.compile(r"\s*[A-I]\s*(?:[>=]\s*[A-I]\s*)*")

Row = dict[str, Any]
Key = tuple[str, str, str]


class NoConsensus(NamedTuple):
    """A pair on which the labelers do not agree enough, so it has no label."""

    input_id: str
    num_labelers: int
    share: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far labelers agree on the pairs that several of them labelled.

    `share` is the mean share of agreeing pairs of labelers; `fleiss` is over all labelers,
    `cohen` over each two that share at least one pair. None where it is not defined.
    """

    num_pairs: int
    num_labelers: int
    share: float | None
    fleiss: float | None
    cohen: Mapping[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """For cards and reports; what is not defined is left out."""
        values = {
            "pairs": self.num_pairs,
            "labelers": self.num_labelers,
            "share_agreed": self.share,
            "fleiss_kappa": self.fleiss,
            "cohen_kappa": {two: k for two, k in self.cohen.items() if k is not None} or None,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of both sources, and how the judge did on the pairs that people labelled too."""

    rows: Iterator[Row]
    judge: Calibration


def parse_ranking(text: str, num_outputs: int) -> list[list[int]]:
    """Tiers of outputs, best first: each output once, letters by position, `=` for a tie.

    >>> parse_ranking("B > E > C = A > D", 5)
    [[1], [4], [2, 0], [3]]
    """
    if not _RANKING.fullmatch(text):
        raise UnusableRow("bad-ranking", "a ranking looks like 'B > A = D > C'")
    tiers = [[_LETTERS.index(one.strip()) for one in tier.split("=")] for tier in text.split(">")]
    named = sorted(index for tier in tiers for index in tier)
    if named != list(range(num_outputs)):
        raise UnusableRow(
            "bad-ranking", f"the ranking should name each of the {num_outputs} outputs once"
        )
    return tiers


def pairs_of_ranking(
    record: Mapping[str, Any], *, pairs: Literal["all", "adjacent"] = "all"
) -> list[Row]:
    """Rows from one labeler's ranking `{prompt, outputs, ranking, labeler?}`; ties give none."""
    prompt = _prompt(record.get("prompt"))
    outputs = record.get("outputs")
    if not isinstance(outputs, list) or not MIN_OUTPUTS <= len(outputs) <= MAX_OUTPUTS:
        raise UnusableRow(
            "bad-outputs", f"'outputs' should be a list of {MIN_OUTPUTS} to {MAX_OUTPUTS} texts"
        )
    answers = [_answer(text, f"outputs[{index}]") for index, text in enumerate(outputs)]
    ranking = record.get("ranking")
    if not isinstance(ranking, str):
        raise UnusableRow("bad-ranking", "'ranking' should be text such as 'B > A = D > C'")
    tiers = parse_ranking(ranking, len(outputs))
    if len(tiers) < 2:
        raise UnusableRow("tie", "all outputs are tied")
    return [
        preference_row(
            prompt=prompt,
            chosen=answers[better],
            rejected=answers[worse],
            p_chosen=1.0,
            source="human",
            labeler=_labeler(record),
            origin={"format": "ranking", "ranking": ranking},
        )
        for better, worse in _ordered(tiers, pairs)
        if answers[better] != answers[worse]
    ]


def consensus(
    rows: Iterable[Row], *, min_share: float = 0.5, min_labelers: int = 1
) -> Iterator[Row | NoConsensus]:
    """One row for each pair, from all its labelers, in the order in which pairs first come.

    `p_chosen` is the share of labelers for the chosen answer; it must be above `min_share`. The
    last label of one labeler on a pair counts; rows without a labeler each count as another's.
    Holds all rows.
    """
    for labels in _by_pair(rows).values():
        first = next(iter(labels.values()))
        for_first = [name for name, row in labels.items() if row["chosen"] == first["chosen"]]
        against = [name for name in labels if name not in for_first]
        winners, losers = (
            (for_first, against) if len(for_first) >= len(against) else (against, for_first)
        )
        share = len(winners) / len(labels)
        if len(labels) < min_labelers or share <= min_share:
            yield NoConsensus(first["input_id"], len(labels), share)
            continue
        row = dict(labels[winners[-1]])
        row["p_chosen"] = share
        row.pop("labeler", None)
        row["votes"] = {"chosen": winners, "rejected": losers}
        yield row


def agreement(rows: Iterable[Row]) -> Agreement:
    """How far labelers agree, over the pairs that at least two of them labelled."""
    shared = {key: ones for key, ones in _by_pair(rows).items() if len(ones) > 1}
    sides = {
        key: {name: pair_side(row) for name, row in ones.items()} for key, ones in shared.items()
    }
    labelers = sorted({name for ones in sides.values() for name in ones})
    together = {two: _both(sides, *two) for two in combinations(labelers, 2)}
    together = {two: labels for two, labels in together.items() if labels[0]}
    everyone = [label for labels in together.values() for label in zip(*labels, strict=True)]
    return Agreement(
        num_pairs=len(shared),
        num_labelers=len(labelers),
        share=share_agreed([a for a, _ in everyone], [b for _, b in everyone]),
        fleiss=fleiss_kappa(list(ones.values()) for ones in sides.values()),
        cohen={f"{a} / {b}": cohen_kappa(*labels) for (a, b), labels in together.items()},
    )


def merge(ai_rows: Iterable[Row], human_rows: Iterable[Row]) -> Merged:
    """Both sources as one data set: people's labels in the place of the judge's on the same pair.

    An overridden row keeps its id, prompt, transcript and policy, and holds the judge's label under
    `overrides`. Human rows without a judged twin come last. `judge` is complete once `rows` is
    used up. Holds the human rows only.
    """
    human = {pair_key(row): row for row in human_rows}
    judge = Calibration()
    return Merged(_merged(ai_rows, human, judge), judge)


def with_weights(rows: Iterable[Row], weights: Mapping[str, float]) -> Iterator[Row]:
    """The same rows, each weight multiplied by that of its source; 1 for a source not named."""
    for row in rows:
        yield {**row, "weight": row.get("weight", 1.0) * weights.get(row["source"], 1.0)}


def pair_side(row: Mapping[str, Any]) -> str:
    """Which answer of the pair was chosen, named the same for every label of that pair."""
    return "first" if pair_key(row)[1] == digest_json(row["chosen"]) else "second"


def _merged(ai_rows: Iterable[Row], human: dict[Key, Row], judge: Calibration) -> Iterator[Row]:
    used: set[Key] = set()
    for row in ai_rows:
        theirs = human.get(key := pair_key(row))
        if theirs is None:
            yield row
            continue
        agrees = theirs["chosen"] == row["chosen"]
        if "label" in row:
            known: Side = "a" if agrees else "b"
            judge.observe_row(row["label"], row["p_chosen"], known=known)
        if key not in used:
            used.add(key)
            yield _overridden(row, theirs)
    yield from (row for key, row in human.items() if key not in used)


def _overridden(row: Row, theirs: Row) -> Row:
    """The judge's row under the human label. `overrides.label` shows the judge's chosen as A."""
    agrees = theirs["chosen"] == row["chosen"]
    overrides = {
        "source": row["source"],
        "p_chosen": row["p_chosen"] if agrees else 1 - row["p_chosen"],
        "agrees": agrees,
        "label": row.get("label"),
    }
    mine = {name: value for name, value in row.items() if name != "label"}
    fields = ("chosen", "rejected", "p_chosen", "source", "weight", "votes", "labeler", "label")
    return (
        mine | {name: theirs[name] for name in fields if name in theirs} | {"overrides": overrides}
    )


def _by_pair(rows: Iterable[Row]) -> dict[Key, dict[str, Row]]:
    pairs: dict[Key, dict[str, Row]] = {}
    for row in rows:
        labels = pairs.setdefault(pair_key(row), {})
        labels[str(row.get("labeler") or f"unnamed-{len(labels) + 1}")] = row
    return pairs


def _both(
    sides: Mapping[Key, Mapping[str, str]], one: str, other: str
) -> tuple[list[str], list[str]]:
    """The labels of two labelers over the pairs that both labelled."""
    both = [ones for ones in sides.values() if one in ones and other in ones]
    return [ones[one] for ones in both], [ones[other] for ones in both]


def _ordered(
    tiers: Sequence[Sequence[int]], pairs: Literal["all", "adjacent"]
) -> Iterator[tuple[int, int]]:
    for (i, upper), (j, lower) in combinations(enumerate(tiers), 2):
        if pairs == "all" or j == i + 1:
            yield from ((better, worse) for better in upper for worse in lower)


def _prompt(value: Any) -> Conversation:
    prompt = (Message("user", value),) if isinstance(value, str) else read_messages(value, "prompt")
    if prompt[-1].role != "user" or not prompt[-1].content.strip():
        raise UnusableRow("no-user-turn", "the prompt does not end with words of the user's")
    check_text(prompt)
    return prompt


def _answer(value: Any, where: str) -> Conversation:
    if not isinstance(value, str) or not value.strip():
        raise UnusableRow("empty-answer", f"{where} should be text that is not empty")
    answer = (Message("assistant", value),)
    check_text(answer)
    return answer


def _labeler(record: Mapping[str, Any]) -> str | None:
    name = record.get("labeler")
    if name is not None and not isinstance(name, str):
        raise UnusableRow("bad-labeler", "'labeler' should be text")
    return name
