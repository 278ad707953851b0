"""An impact preview as JSON and as text. Pure functions; start from `impact_dict`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cai.evaluate.constitution_text import marked
from cai.evaluate.impact import Impact, PairImpact, RevisionImpact
from cai.evaluate.impact_causes import COMPOSITION

MAX_SHOWN = 3
"""Revised answers that a terminal shows."""

MAX_CHARS = 100


def impact_dict(impact: Impact) -> dict[str, Any]:
    """The preview as JSON."""
    mean, interval = impact.net
    rate = impact.flip_rate
    by_cause = impact.flips_by_cause()
    return {
        "format": 1,
        **{key: impact.diff.as_dict()[key] for key in ("from", "to")},
        "judge": impact.judge.as_dict(),
        "pairs": len(impact.pairs),
        "judged": impact.num_judged,
        "no_verdict": impact.no_verdict(),
        "questions": {
            "asked": impact.num_asked,
            "two_runs": impact.num_two_runs,
            "share": round(impact.num_asked / impact.num_two_runs, 4) if impact.num_two_runs else 0,
        },
        "flips": None if rate is None else {**rate.as_dict(), "count": len(impact.flips)},
        "net": {
            "mean": round(mean, 6),
            **({} if interval is None else {"ci": [round(end, 6) for end in interval]}),
        },
        "accuracy": {name: rate.as_dict() for name, rate in impact.accuracy().items()},
        "principles": [
            {
                "id": cause,
                "kind": _kind(impact, cause),
                "flips": round(count, 3),
                "share": round(count / max(1, len(impact.flips)), 4),
                "examples": [_example(one) for one in impact.examples(cause)],
            }
            for cause, count in by_cause.items()
        ],
        "revisions": [_revision(one) for one in impact.revisions],
    }


def impact_lines(impact: Impact) -> Iterator[str]:
    """The preview for a terminal: what flips, why, and a few examples."""
    shown = impact_dict(impact)
    questions, flips = shown["questions"], shown["flips"]
    yield f"{impact.old.ref} -> {impact.new.ref}, judged by {impact.judge.model}"
    yield (
        f"{shown['judged']} of {shown['pairs']} pairs judged under both; "
        f"{questions['asked']} questions, {questions['share']:.2f} of two full runs"
    )
    for name, reasons in shown["no_verdict"].items():
        if reasons:
            told = ", ".join(f"{reason} {number}" for reason, number in reasons.items())
            yield f"no verdict under the {name} one: {told}"
    if flips is None:
        return
    low, high = flips["ci"]
    yield f"flips {flips['count']} ({flips['rate']:.1%}, 95 % interval {low:.1%} to {high:.1%})"
    mean, interval = impact.net
    around = "" if interval is None else f" ({interval.low:+.3f} to {interval.high:+.3f})"
    yield f"net shift away from the old choices {mean:+.3f}{around}"
    for name, rate in impact.accuracy().items():
        yield f"agreement with people, {name}: {rate.rate:.1%} of {rate.n}"
    for one in shown["principles"]:
        yield f"  {one['flips']:>6g} flips  {one['id']} ({one['kind']})"
        for example in impact.examples(one["id"])[:1]:
            yield from (f"          {line}" for line in _example_lines(example))


def revision_lines(impact: Impact) -> Iterator[str]:
    """How the revisions differ, those that do."""
    different = [one for one in impact.revisions if one.old.answer != one.new.answer]
    if impact.revisions:
        yield f"{len(different)} of {len(impact.revisions)} revised answers differ"
    for one in different[:MAX_SHOWN]:
        yield f"  {one.prompt[-1].content}"
        yield f"    {marked(one.old.answer, one.new.answer)}"


def _example_lines(one: PairImpact) -> Iterator[str]:
    assert one.old is not None, "an example has both labels"
    assert one.new is not None, "an example has both labels"
    was, now = (one.pair.a, one.pair.b) if one.old.chosen == "a" else (one.pair.b, one.pair.a)
    yield f"asked:  {_short(one.pair.conversation[-1].content)}"
    yield f"before: {_short(was)}"
    yield f"now:    {_short(now)}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= MAX_CHARS else words[: MAX_CHARS - 2] + " …"


def _kind(impact: Impact, cause: str) -> str:
    if cause == COMPOSITION:
        return cause
    return next((one.kind for one in impact.diff.principles if one.id == cause), "unchanged")


def _example(one: PairImpact) -> dict[str, Any]:
    assert one.old is not None, "an example has both labels"
    assert one.new is not None, "an example has both labels"
    return {
        "prompt": [message.as_dict() for message in one.pair.conversation],
        "a": one.pair.a,
        "b": one.pair.b,
        "p_a": [round(one.old.p_a, 6), round(one.new.p_a, 6)],
        "decided_by": [list(one.old.decided_by), list(one.new.decided_by)],
    }


def _revision(one: RevisionImpact) -> dict[str, Any]:
    return {
        "prompt": [message.as_dict() for message in one.prompt],
        "draft": one.old.draft,
        "same": one.old.answer == one.new.answer,
        **{
            name: {
                "answer": transcript.answer,
                "principles": [step.principle for step in transcript.steps],
            }
            for name, transcript in (("old", one.old), ("new", one.new))
        },
    }
