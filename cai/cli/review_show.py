"""What `cai review` prints for people: an item without its makers, and how far raters agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cai.cli.output import clean
from cai.evaluate.demo_report import rate_text
from cai.review.records import Shown


def item_lines(shown: Shown) -> Iterator[str]:
    """The conversation, then the answers under the letters by which they are chosen."""
    yield f"{shown.id}"
    for message in shown.prompt:
        yield clean(f"{message['role']:>10}  {message['content']}")
    names = ("a", "b") if shown.kind == "pair" else ("answer",)
    for name, turns in zip(names, shown.answers, strict=True):
        for turn in turns:
            said = name if turn["role"] == "assistant" else turn["role"]
            yield clean(f"{said:>10}  {turn['content']}")


def stats_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The queue, agreement on the random share first, then each rater."""
    queue = told["queue"]
    yield (
        f"{queue['items']} items ({queue['random']} of the random share), {queue['open']} open, "
        f"{queue['leased']} before someone; {told.get('decisions', 0)} decisions"
    )
    for name, title in (("random", "random share, unbiased"), ("all", "all, the hard ones first")):
        if name in told:
            yield f"{title}: {told[name]['items']} pairs"
            yield from (f"  {line}" for line in _agreement_lines(told[name]))
    for two, found in told.get("ratings", {}).get("cohen_kappa_quadratic", {}).items():
        yield f"ratings of {two}{_kappa('quadratic κ', found)}"
    for name, rate in told.get("policies", {}).items():
        yield f"{name}: {rate_text(rate)} of {rate['n']}"
    for name, mean in told.get("rated_policies", {}).items():
        ends = " [{:.2f}, {:.2f}]".format(*mean["ci"]) if "ci" in mean else ""
        yield f"{name}: rated {mean['mean']:.2f}{ends} over {mean['n']} answers"
    for name, did in told.get("raters", {}).items():
        chose = ", ".join(f"{word} {n}" for word, n in did.items() if word != "chose_first")
        first = f"; the first shown {rate_text(did['chose_first'])}" if "chose_first" in did else ""
        yield f"rater {name}: {chose}{first}"


def _agreement_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if "between_raters" in found:
        between = found["between_raters"]
        kappa = _kappa("Fleiss' κ", between.get("fleiss_kappa"))
        yield f"raters agree {rate_text(between['agreed'])} on {between['items']} pairs{kappa}"
        for two, one in between.get("cohen_kappa", {}).items():
            yield f"  {two}{_kappa('Cohen’s κ', one)}"
    if "with_judge" in found:
        judge = found["with_judge"]
        kappa = _kappa("κ", judge.get("cohen_kappa"))
        yield f"the judge agrees {rate_text(judge['agreed'])} of {judge['agreed']['n']}{kappa}"
        for rater, rate in judge["by_rater"].items():
            yield f"  with {rater} {rate_text(rate)} of {rate['n']}"


def _kappa(name: str, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    ends = " [{:.2f}, {:.2f}]".format(*found["ci"]) if "ci" in found else ""
    return f", {name} {found['kappa']:.2f}{ends}"
