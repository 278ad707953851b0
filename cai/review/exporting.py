"""What was decided, for other tools: a line per item, and annotated-pairs 2.0 with every view.

Start from `review_line`, `games` and `annotated_document`; rows for a dataset are made by
`decisions.human_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from cai.dataset.export.annotated import (
    VERSION,
    annotator_entry,
    preferred,
    prompt_text,
    short_id,
)
from cai.dataset.preferences import answer_text
from cai.files import digest_json
from cai.review.records import SHARES, Decision, Reviewed

FORMAT: Final = 1

_DECIDED = {"item_id", "id"}


def review_line(reviewed: Reviewed) -> dict[str, Any]:
    """An item as a JSON line: its answers, who gave them, what the judge and each rater said."""
    item = reviewed.item
    return {
        "format": FORMAT,
        "id": item.id,
        "kind": item.kind,
        "source": item.source,
        "imported_at": item.at,
        "is_random": item.is_random,
        "target": item.target,
        "prompt": item.prompt,
        "answers": [
            {"turns": turns, **({} if policy is None else {"policy": policy})}
            for turns, policy in zip(item.answers, item.policies, strict=True)
        ],
        **({} if item.p_a is None else {"p_a": item.p_a}),
        "opinions": [one.model_dump() for one in item.opinions],
        "origin": item.origin,
        "decisions": [_decision(one) for one in reviewed.decisions],
    }


def games(reviewed: Reviewed) -> Iterator[dict[str, Any]]:
    """A line per vote on two known policies, as an arena reads them; lengths in characters."""
    item = reviewed.item
    if item.kind != "pair" or None in item.policies or item.policies[0] == item.policies[1]:
        return
    lengths = [len(answer_text(turns)) for turns in item.answers]
    told = dict(zip(("a", "b", "len_a", "len_b"), (*item.policies, *lengths), strict=True))
    for rater, vote in reviewed.votes.items():
        yield {"prompt_id": digest_json(item.prompt), **told, "winner": vote, "source": rater}


def annotated_document(reviewed: Iterable[Reviewed], *, created_at: str) -> dict[str, Any]:
    """Every pair that was decided, as annotated pairs: raters and earlier labelers are people.

    The default annotator is the rater with the most decisions. Single answers have no place here.
    """
    annotators: dict[str, dict[str, str]] = {}
    num_by: dict[str, int] = {}
    comparisons = []
    for one in reviewed:
        if one.item.kind != "pair" or not one.votes:
            continue
        views = {}
        for kind, name, p_a in _views(one):
            key = short_id(f"{kind} {name}")
            annotators.setdefault(key, annotator_entry(name, f"{kind.capitalize()} {name}", kind))
            views[key] = preferred(p_a, "a", "b")
        for rater in one.votes:
            key = short_id(f"human {rater}")
            num_by[key] = num_by.get(key, 0) + 1
        comparisons.append(_comparison(one, views))
    default = max(num_by, key=lambda key: num_by[key], default=None)
    told = {"description": "Pairs of answers that people compared", "dataset_name": "review"}
    return {
        "metadata": {
            "version": VERSION,
            **told,
            "created_at": created_at,
            "default_annotator": default,
        },
        "annotators": annotators,
        "comparisons": comparisons,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return decision.model_dump(exclude=_DECIDED, exclude_none=True)


def _views(reviewed: Reviewed) -> list[tuple[str, str, float]]:
    """(kind, name, P(a)) of everyone; a rater's word counts over what a file said of theirs."""
    said = {(one.kind.replace("judge", "ai"), one.by): one.p_a for one in reviewed.item.opinions}
    said |= {("human", rater): SHARES[vote] for rater, vote in reviewed.votes.items()}
    return [(kind, name, p_a) for (kind, name), p_a in said.items()]


def _comparison(reviewed: Reviewed, views: dict[str, Any]) -> dict[str, Any]:
    item = reviewed.item
    sides = zip(("response_a", "response_b"), item.answers, item.policies, strict=True)
    return {
        "id": item.id,
        "prompt": prompt_text(item.prompt),
        **{
            side: {"text": answer_text(turns), **({} if model is None else {"model": model})}
            for side, turns, model in sides
        },
        "annotations": views,
        "metadata": {"source": item.source, "is_random": item.is_random},
    }
