"""`cai data import`, `feedback`, `merge`: preferences from elsewhere, people's beside a judge's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cai.cli.output import print_json, print_text
from cai.dataset.derived import Derived, Mode, feedback_run, import_run, merge_runs
from cai.dataset.importers.formats import NAMES
from cai.dataset.preferences import SOURCES, Source
from cai.errors import ConfigError, DataError
from cai.registry import choices
from cai.settings import load_settings

Out = Annotated[Path, typer.Option(help="The run directory to write.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Make it anew though it is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def import_(
    file: Annotated[Path, typer.Argument(help="Preferences: .jsonl, .json or .parquet, or .gz.")],
    out: Out,
    format: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(NAMES)}; known by its first record.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Who the labels are by: human or ai; else by the format.")
    ] = None,
    weight: Annotated[float, typer.Option(min=0, help="Weight of every row.")] = 1.0,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Bring preference data of another format in as a run, and say what was left out and why."""
    made = import_run(
        file,
        out,
        format=format,
        source=_source(source),
        weight=weight,
        mode=_mode(fresh),
    )
    _print(made, as_json=as_json)


def feedback(
    out: Out,
    weight: Annotated[float, typer.Option(min=0, help="Weight of every row.")] = 1.0,
    after: Annotated[
        int, typer.Option(min=0, help="Only what came after this place: 'last' of earlier JSON.")
    ] = 0,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="No usable pair is no error.")
    ] = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Write what people said of the service's answers as a run of human preferences."""
    from cai.db import open_database  # here, so that the other commands need no database
    from cai.policy.feedback import FeedbackStore

    with open_database(load_settings()) as database:
        store = FeedbackStore(database)
        last = store.last_seq()
        records = [one.model_dump() for one in store.records(after=after, up_to=last)]
    made = feedback_run(records, out, weight=weight, mode=_mode(fresh))
    _print(made, as_json=as_json, more={"last": last}, allow_empty=allow_empty)


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or their rows.jsonl.")],
    out: Out,
    weights: Annotated[
        str | None, typer.Option(help="Weight of each source, as in human=1.0,ai=0.5.")
    ] = None,
    min_labelers: Annotated[
        int, typer.Option(min=1, help="Fewest labelers of a pair whose label counts.")
    ] = 1,
    min_share: Annotated[
        float, typer.Option(min=0.5, max=1, help="Share of them that must be exceeded.")
    ] = 0.5,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Merge runs: people's labels override the judge's on the same pair, and score the judge."""
    made = merge_runs(
        runs,
        out,
        weights=_weights(weights),
        min_labelers=min_labelers,
        min_share=min_share,
        mode=_mode(fresh),
    )
    _print(made, as_json=as_json)


def _print(
    made: Derived,
    *,
    as_json: bool,
    more: Mapping[str, Any] | None = None,
    allow_empty: bool = False,
) -> None:
    manifest, counts = made.manifest, made.manifest["counts"]
    told = ("format", "agreement", "judge_stats", "sources", "lines")
    if as_json:
        shown = {name: manifest[name] for name in told if name in manifest}
        print_json({**shown, **(more or {}), "run": str(made.folder), **counts})
    else:
        print_text("\n".join(_lines(made)))
    if not counts["pairs"] and not allow_empty:
        raise DataError(
            f"{made.folder}: no pair was usable{_reasons(counts['rejected'])}; rejected.jsonl "
            "there says why, one by one"
        )


def _lines(made: Derived) -> Iterator[str]:
    manifest, counts = made.manifest, made.manifest["counts"]
    by_source = ", ".join(f"{name} {n:,}" for name, n in manifest.get("sources", {}).items())
    yield f"{made.folder}: {counts['pairs']:,} pairs" + (f" ({by_source})" if by_source else "")
    if rejected := counts["rejected"]:
        yield f"{sum(rejected.values()):,} left out{_reasons(rejected)}: see rejected.jsonl there"
    if counts["notes"]:
        notes = ", ".join(f"{note} {number:,}" for note, number in counts["notes"].items())
        yield f"mended or marked: {notes}"
    if "agreement" in manifest:
        yield from _agreement_lines(manifest["agreement"])
    for policy, stats in manifest.get("judge_stats", {}).items():
        if "accuracy" in stats:
            yield (
                f"judge {policy}: right on {stats['accuracy']:.1%} of the {stats['known']:,} pairs "
                "that people labelled too"
            )
    if not made.worked:
        yield "it was there already; make it anew with --fresh"
    if counts["pairs"]:
        yield f"next: cai data card {made.folder}"


def _agreement_lines(found: dict[str, Any]) -> Iterator[str]:
    kappa = f", Fleiss' κ {found['fleiss_kappa']:.2f}" if "fleiss_kappa" in found else ""
    yield (
        f"{found['labelers']} labelers on {found['pairs']:,} pairs: "
        f"{found.get('share_agreed', 0):.1%} agree{kappa}"
    )
    for two, value in found.get("cohen_kappa", {}).items():
        yield f"  {two}: Cohen's κ {value:.2f}"


def _reasons(rejected: dict[str, int]) -> str:
    told = ", ".join(f"{reason} {number:,}" for reason, number in sorted(rejected.items()))
    return f" ({told})" if told else ""


def _mode(fresh: bool) -> Mode:
    return "fresh" if fresh else "auto"


def _source(name: str | None) -> Source | None:
    if name is not None and name not in SOURCES:
        raise ConfigError(f"no source '{name}'{choices(name, SOURCES)}", param="source")
    return cast("Source | None", name)


def _weights(text: str | None) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, value = part.strip().partition("=")
        if name not in SOURCES:
            raise ConfigError(f"--weights: no source '{name}'{choices(name, SOURCES)}")
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = -1.0
        if not 0 <= weights[name] < float("inf"):
            raise ConfigError(f"--weights {part}: write a number, 0 or more, as in human=1.0")
    return weights
