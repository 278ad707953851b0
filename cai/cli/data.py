"""`cai data`: make datasets from prompts, and look at the runs that make them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.cli import generate
from cai.cli.output import print_json, print_text
from cai.dataset.status import RunStatus, read_status

app = typer.Typer(
    name="data",
    help="Datasets from prompts: drafts, critiques, revisions, and where a run stands.",
    add_completion=False,
    no_args_is_help=True,
)
app.command("generate")(generate.command)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="A run directory, live or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run has kept, rejected and still owes, and who writes to it."""
    found = read_status(run)
    if as_json:
        print_json(found.as_dict())
    else:
        print_text("\n".join(_lines(found)))


def _lines(found: RunStatus) -> list[str]:
    counts = found.counts
    state = f"running (process {found.pid})" if found.state == "running" else found.state
    lines = [
        f"{found.folder}: {state}, {counts.accounted:,} of {found.inputs:,} inputs",
        f"  kept      {counts.kept:,}",
        f"  rejected  {counts.num_rejected:,}",
        *(f"    {reason}  {number:,}" for reason, number in sorted(counts.rejected.items())),
        f"  owed      {found.owed:,}",
    ]
    if found.rows_per_s is not None:
        lines.append(f"  rate      {found.rows_per_s:,.1f} rows/s in the latest session")
    engine, constitution = found.manifest["engine"], found.manifest["constitution"]
    lines.append(f"  made by   {engine['model']} with {constitution['ref']}")
    if found.state == "stopped":
        lines.append(
            f"go on with: cai data generate {found.manifest['prompts']['path']} "
            f"--config {found.folder / 'config.yaml'} --out {found.folder}"
        )
    return lines
