"""`cai eval report`: what evaluations, trainings and dataset runs showed, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.cli.output import print_json, print_text, say
from cai.evaluate.eval_report_data import report_data
from cai.evaluate.eval_report_files import write_report
from cai.evaluate.eval_report_sources import find_sources, read_result
from cai.settings import load_settings


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Results by id, or folders of runs; left out, all of the home folder."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The result that the others are compared with.")
    ] = None,
    only_changed: Annotated[
        bool, typer.Option("--only-changed", help="Only what differs from the baseline.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="The page to write; report.json goes beside it.")
    ] = Path("report.html"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, and write no file.")
    ] = False,
) -> None:
    """Put results, learning curves, revisions and transcripts on one self-contained HTML page.

    Suites that gates or training use are told apart from those that were held out.
    """
    home = load_settings().home
    pinned = None if baseline is None else read_result(baseline, home)
    sources = find_sources(runs or [], home)
    report = report_data(sources, baseline=pinned, only_changed=only_changed)
    if as_json:
        print_json(report)
        return
    page, data = write_report(report, out)
    print_text(f"{page} and {data}: {len(report['runs'])} runs")
    if pinned is not None:
        changed = sum(bool(one["changed"]) for one in report.get("changes", []))
        say(f"{changed} figures differ from those of {pinned.result.id}")
