"""The demo's report as one HTML page: rates with a picture, transcripts with their changes.

The page needs nothing from outside and runs no script; every text in it is escaped.
Start from `render`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cai.evaluate.diff import Piece, word_diff
from cai.evaluate.pages import render_page

TITLES = {
    "harmful": "Harmful",
    "jailbroken": "Jailbroken",
    "over_refusal": "Over-refusal",
    "sycophantic": "Sycophantic",
    "incoherent": "Incoherent",
}
MEANINGS = {
    "harmful": "gives the help that a harmful request asks for",
    "jailbroken": "gives it to a harmful request in disguise",
    "over_refusal": "turns a harmless request away",
    "sycophantic": "agrees with a claim that is false",
    "incoherent": "makes no sense, or gets a fact wrong",
}

_BAR_WIDTH = 34
_GAP = 14
_HEIGHT = 96
_TOP = 20


@dataclass(frozen=True, slots=True)
class Example:
    """A transcript worth showing: why, and the verdicts on its answers, draft first."""

    caption: str
    row: Mapping[str, Any]
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pairing:
    """One prompt with each policy's answer to it, as (policy, answer, verdict)."""

    prompt: Sequence[Mapping[str, str]]
    answers: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a small chart, in the chart's own units."""

    x: float
    y: float
    height: float
    low: float
    high: float
    label: str
    name: str
    is_draft: bool


class RateTable(NamedTuple):
    """Steps or policies as columns; a row has the fault, the number of answers, and its rates."""

    columns: list[str]
    rows: list[tuple[str, int, list[str]]]


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step ready to be shown: its change against the answer before it."""

    principle: str
    critique: str
    status: str
    problem: str | None
    change: Sequence[Piece]
    verdict: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One fault's rates as bars."""

    title: str
    meaning: str
    bars: Sequence[Bar]
    width: float
    base: float


def render(
    report: Mapping[str, Any], examples: Sequence[Example], pairings: Sequence[Pairing] = ()
) -> str:
    """The whole page. `pairings` are answers of the report's policies side by side."""
    policies = list(report.get("policies", {}).items())
    return render_page(
        "demo_report.html.j2",
        report=report,
        charts=charts(by_step(report["revisions"])),
        policy_charts=charts(policies),
        policy_table=policy_table(policies),
        pairings=pairings,
        table=rate_table(report["revisions"]),
        examples=[(example, shown_steps(example)) for example in examples],
        percent=percent,
    )


def by_step(revisions: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rates after each step, under short names."""
    return [("draft" if not one["step"] else f"rev. {one['step']}", one) for one in revisions]


def charts(series: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Chart]:
    """A small chart for each fault that was measured, with a bar for each of `series`."""
    return [
        Chart(
            title=title,
            meaning=MEANINGS[fault],
            bars=[_bar(index, name, rates[fault]) for index, (name, rates) in enumerate(series)],
            width=_GAP + len(series) * (_BAR_WIDTH + _GAP),
            base=_TOP + _HEIGHT,
        )
        for fault, title in measured([rates for _, rates in series]).items()
    ]


def measured(rates: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Faults that have a rate in each of `rates`, with their titles."""
    return {
        fault: title
        for fault, title in TITLES.items()
        if rates and all(fault in one for one in rates)
    }


def rate_table(revisions: Sequence[Mapping[str, Any]]) -> RateTable:
    """Each fault's rate at every step, in words."""
    rows = [
        (title, revisions[0][fault]["n"], [rate_text(step[fault]) for step in revisions])
        for fault, title in measured(revisions).items()
    ]
    return RateTable([step_name(step["step"]) for step in revisions], rows)


def policy_table(policies: Sequence[tuple[str, Mapping[str, Any]]]) -> RateTable:
    """Each fault's rate under every policy, and how far each went from the base."""
    rates = [one for _, one in policies]
    rows = [
        (title, rates[0][fault]["n"], [rate_text(one[fault]) for one in rates])
        for fault, title in measured(rates).items()
    ]
    if rows and any("kl" in one for one in rates):
        row = [f"{one['kl']:.2f} nats" if "kl" in one else "" for one in rates]
        rows.append(("KL to the base, per answer", rows[-1][1], row))
    return RateTable([name for name, _ in policies], rows)


def shown_steps(example: Example) -> list[ShownStep]:
    """The steps of a transcript with what each changed."""
    answer = example.row["draft"]
    shown = []
    for step, verdict in zip(example.row["steps"], example.verdicts[1:], strict=False):
        revised = step.get("revision") if step["status"] == "revised" else None
        change = word_diff(answer, revised) if revised is not None else []
        shown.append(
            ShownStep(
                step["principle"],
                step["critique"],
                step["status"],
                step.get("problem"),
                change,
                verdict,
            )
        )
        answer = answer if revised is None else revised
    return shown


def step_name(step: int) -> str:
    """What the answers after `step` steps are called."""
    return "draft" if step == 0 else f"revision {step}"


def rate_text(rate: Mapping[str, Any]) -> str:
    """A rate and its interval.

    >>> rate_text({"rate": 0.012, "n": 412, "ci": [0.004, 0.028]})
    '1.2 % [0.4, 2.8]'
    """
    low, high = (percent(share).removesuffix(" %") for share in rate["ci"])
    return f"{percent(rate['rate'])} [{low}, {high}]"


def percent(share: float) -> str:
    """A share in per cent, with a decimal where it is small.

    >>> percent(0.5), percent(0.0125), percent(0)
    ('50 %', '1.2 %', '0 %')
    """
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def _bar(index: int, name: str, rate: Mapping[str, Any]) -> Bar:
    low, high = rate["ci"]
    return Bar(
        x=_GAP + index * (_BAR_WIDTH + _GAP),
        y=_TOP + _HEIGHT * (1 - rate["rate"]),
        height=_HEIGHT * rate["rate"],
        low=_TOP + _HEIGHT * (1 - low),
        high=_TOP + _HEIGHT * (1 - high),
        label=percent(rate["rate"]),
        name=name,
        is_draft=index == 0,
    )
