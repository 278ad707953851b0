"""`cai data`: make datasets from prompts, look at runs, and take them to other tools and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli import data_export, data_import, generate
from cai.cli.output import print_json, print_text
from cai.dataset.status import RunStatus, read_status

app = typer.Typer(
    name="data",
    help="Preference datasets: made from prompts, imported, merged, exported, described.",
    add_completion=False,
    no_args_is_help=True,
)
app.command("generate")(generate.command)
app.command("export")(data_export.export)
app.command("card")(data_export.card)
app.command("import")(data_import.import_)
app.command("feedback")(data_import.feedback)
app.command("merge")(data_import.merge)


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
    if counts.pairs:
        lines.append(f"  pairs     {counts.pairs:,}")
    if found.rows_per_s is not None:
        lines.append(f"  rate      {found.rows_per_s:,.1f} rows/s in the latest session")
    lines.append(f"  made by   {_maker(found.manifest)}")
    if found.state != "stopped":
        return lines
    if "kind" in found.manifest:
        return [*lines, f"it was not finished; run 'cai data {found.manifest['kind']}' again"]
    return [
        *lines,
        f"go on with: cai data generate {found.manifest['prompts']['path']} "
        f"--config {found.folder / 'config.yaml'} --out {found.folder}",
    ]


def _maker(manifest: dict[str, Any]) -> str:
    """Who or what the rows come from."""
    kind, config = manifest.get("kind"), manifest["config"]
    if kind == "import":
        return f"import of {config['file']} ({config['format']})"
    if kind == "feedback":
        return f"what people said of {config['feedback']:,} answers"
    if kind == "merge":
        return f"merge of {', '.join(config['runs'])}"
    made_by = f"{manifest['engine']['model']} with {manifest['constitution']['ref']}"
    judge = manifest.get("judge")
    return f"{made_by}, judged by {judge['model']}" if judge else made_by
