"""What `cai loop` tells of its rounds: a table of each, or JSON of them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.cli.output import print_table, print_text
from cai.loop.state import Figures, LoopNotes, RoundNote


def print_round(now: RoundNote, limits: Mapping[str, float]) -> None:
    """The round in a line, and its rates before and after with their intervals."""
    people = f" and {now.num_human:,} by people" if now.num_human else ""
    print_text(
        f"round {now.number}: {now.policy} is {now.outcome}, from {now.started_from}; "
        f"{now.num_pairs:,} pairs{people}, {now.seconds:,.0f} s"
    )
    names = [name for name in (*now.before, *now.after) if _is_rate(now, name)]
    rows = [
        (name, _told(now.before.get(name)), _told(now.after.get(name)), _limit(limits.get(name)))
        for name in dict.fromkeys(names)
    ]
    if rows:
        print_table(("rate", "before", "after", "limit"), rows)
    for reason in now.reasons:
        print_text(f"rejected: {reason}")


def loop_json(notes: LoopNotes, folder: Path) -> dict[str, Any]:
    """The whole loop for machines."""
    return {
        "loop": notes.id,
        "folder": str(folder),
        "url": notes.url,
        "rounds": [_round_json(one) for one in notes.rounds],
    }


def _round_json(now: RoundNote) -> dict[str, Any]:
    told = ("policy", "outcome", "started_from", "before", "after", "reasons", "seconds")
    return {
        "round": now.number,
        **now.model_dump(mode="json", include=set(told)),
        "pairs": now.num_pairs,
        "human_pairs": now.num_human,
        "jobs": {key: job.id for key, job in now.jobs.items()},
    }


def _is_rate(now: RoundNote, name: str) -> bool:
    found: Figures = {**now.before, **now.after}
    return isinstance(found[name], dict) and "rate" in found[name]


def _told(rate: Mapping[str, Any] | None) -> str | None:
    if rate is None:
        return None
    low, high = rate["ci"]
    return f"{rate['rate']:.1%} ({low:.1%} to {high:.1%}) of {rate['n']:,}"


def _limit(limit: float | None) -> str | None:
    return None if limit is None else f"{limit:.1%}"
