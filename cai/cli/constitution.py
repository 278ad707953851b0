"""`cai constitution`: list, show, begin and release; the other verbs have files of their own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cai.cli import constitution_cases, constitution_files, constitution_impact, constitution_lint
from cai.cli.constitution_common import Json, as_dict, open_store, short
from cai.cli.output import print_json, print_table, print_text, say
from cai.constitution.release import new_draft, release
from cai.constitution.schema import Principle
from cai.evaluate.constitution_history import write_changelog

app = typer.Typer(
    name="constitution",
    help="Constitutions: the principles by which answers are critiqued and compared.",
    add_completion=False,
)
app.command("lint")(constitution_lint.command)
app.command("diff")(constitution_files.diff)
app.command("import")(constitution_files.import_)
app.command("export")(constitution_files.export)
app.command("changelog")(constitution_files.changelog)
app.command("publish")(constitution_files.publish)
app.command("test")(constitution_cases.command)
app.command("impact")(constitution_impact.impact)
app.command("attribution")(constitution_impact.attribution)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List every release and draft, broken ones with the reason."""
    store = open_store()
    summaries = store.list()
    if as_json:
        print_json([asdict(summary) for summary in summaries])
        return
    print_table(
        ("ref", "state", "principles", "title", "digest"),
        [
            (one.ref, one.state, one.num_principles, one.title, short(one.digest))
            for one in summaries
        ],
    )
    for one in summaries:
        if one.error is not None:
            say(f"{one.ref} is broken: {one.error}")
    if not summaries:
        say(f"no constitution in {store.root}; begin one with 'cai constitution new NAME'")


@app.command()
def show(ref: str, as_json: Json = False) -> None:
    """Show the constitution REF (name@2, name@draft, or name for the newest release)."""
    constitution = open_store().get(ref)
    if as_json:
        print_json(as_dict(constitution))
        return
    print_text(f"{constitution.ref}  {constitution.title}")
    print_text(f"composition {constitution.composition}, digest {constitution.digest}")
    if constitution.extends is not None:
        print_text(f"extends {constitution.extends}, whose principles are included")
    for principle in constitution.principles:
        print_text("")
        print_text("\n".join(_principle_lines(principle)))


@app.command("release")
def release_(name: str, as_json: Json = False) -> None:
    """Freeze NAME's draft as its next release."""
    store = open_store()
    released = release(store, name)
    write_changelog(store, name)
    if as_json:
        print_json({"ref": released.ref, "digest": released.digest})
        return
    print_text(f"released {released.ref}, {released.digest}")
    say(f"see it with: cai constitution show {released.ref}")


@app.command()
def new(
    name: str,
    extends: Annotated[
        str | None, typer.Option(help="A constitution to build on, as base@1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Begin a draft: an example to edit, or a copy of NAME's newest release."""
    path = new_draft(open_store(), name, extends=extends)
    if as_json:
        print_json({"ref": f"{name}@draft", "path": str(path)})
        return
    print_text(f"wrote {path}")
    say(f"edit it, then: cai constitution lint {path} && cai constitution release {name}")


def _principle_lines(principle: Principle) -> list[str]:
    tags = f"  [{', '.join(principle.tags)}]" if principle.tags else ""
    lines = [f"{principle.id}  weight {principle.weight:g}, {len(principle.cases)} cases{tags}"]
    if principle.title is not None:
        lines.append(f"  {principle.title}")
    for step in ("critique", "revision", "compare"):
        if (text := getattr(principle, step)) is not None:
            lines.append(f"  {step + ':':<10}{text}")
    if principle.rationale is not None:
        lines.append(f"  because:  {principle.rationale}")
    if principle.author is not None:
        lines.append(f"  by:       {principle.author}")
    return lines + [f"  see:      {reference}" for reference in principle.references]
