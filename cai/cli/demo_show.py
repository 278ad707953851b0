"""What the demo prints: transcripts worth reading, rates in tables, where the report is.

Start from `print_report`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.cli.output import clean, print_table, print_text
from cai.evaluate.demo_report import (
    Example,
    RateTable,
    percent,
    policy_table,
    rate_table,
    shown_steps,
)


def print_report(report: Mapping[str, Any], examples: Sequence[Example], folder: Path) -> None:
    """The answer of `cai demo` for people."""
    for example in examples:
        print_text(f"── {example.caption}")
        print_text("\n".join(_example_lines(example)))
        print_text("")
    _print_rates(rate_table(report["revisions"]))
    if "policies" in report:
        print_text("")
        _print_rates(policy_table(list(report["policies"].items())))
    print_text("rates by the oracle, with 95 % intervals")
    for line in _summary(report):
        print_text(line)
    print_text(f"report: {folder / 'report.html'} and {folder / 'report.json'}")


def _print_rates(table: RateTable) -> None:
    print_table(
        ("", "n", *table.columns), [(name, number, *cells) for name, number, cells in table.rows]
    )


def _summary(report: Mapping[str, Any]) -> Iterator[str]:
    dataset, judge = report["dataset"], report.get("judge", {})
    rejected = "".join(f", {reason} {number}" for reason, number in dataset["rejected"].items())
    pairs = f", {dataset['pairs']} preference pairs" if "pairs" in dataset else ""
    yield f"{dataset['inputs']} prompts, {dataset['kept']} kept{rejected}{pairs}"
    if "position_bias" in judge:
        accuracy = f", right on {percent(judge['accuracy']['rate'])}" if "accuracy" in judge else ""
        flips = f", flips {percent(judge['flips']['rate'])}" if "flips" in judge else ""
        yield f"judge: bias to the first answer {judge['position_bias']:+.3f}{flips}{accuracy}"
    if "accuracy" in report.get("reward_model", {}):
        rate = report["reward_model"]["accuracy"]
        yield f"reward model: right on {percent(rate['rate'])} of {rate['n']} pairs"
    if "reload" in report:
        reload = report["reload"]
        yield (
            f"reloads: {reload['seconds']:.2f} s, {reload['failed_requests']} failed requests, "
            f"probes off by {reload['probe_max_abs_diff']:.2g} at most"
        )
    yield f"{report['seconds_total']:.0f} s in all"


def _example_lines(example: Example) -> Iterator[str]:
    for message in example.row["prompt"]:
        yield clean(f"{message['role']:>10}  {message['content']}")
    yield clean(f"{'draft':>10}  {example.row['draft']}  ({example.verdicts[0]})")
    for step in shown_steps(example):
        yield clean(f"{'critique':>10}  {step.critique}  ({step.principle})")
        if step.change:
            text = "".join(piece.text for piece in step.change if piece.kind != "gone")
            yield clean(f"{'revision':>10}  {text}  ({step.verdict})")
