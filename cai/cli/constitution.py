"""`cai constitution`: list, show, lint, release and begin constitutions."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.output import print_json, print_table, print_text, say
from cai.constitution.lint import Finding, lint
from cai.constitution.release import new_draft, release
from cai.constitution.schema import Constitution, Principle
from cai.constitution.store import ConstitutionStore
from cai.errors import ConstitutionError
from cai.settings import load_settings

app = typer.Typer(
    name="constitution",
    help="Constitutions: the principles by which answers are critiqued and compared.",
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UNREADABLE = frozenset({"yaml", "schema", "place"})
"""Rules whose findings mean that the file cannot be used at all: bad input, exit 2."""


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
    for principle in constitution.principles:
        print_text("")
        print_text("\n".join(_principle_lines(principle)))


@app.command("lint")
def lint_(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders; default: all constitutions.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check constitution files: exit 2 when one cannot be used, 1 for other errors."""
    files = [file for path in paths or [open_store().root] for file in yaml_files(path)]
    findings = [finding for file in files for finding in lint(file)]
    if as_json:
        print_json([{**one._asdict(), "path": str(one.path)} for one in findings])
    else:
        for one in findings:
            place = f"{one.path}:{one.line}:{one.column}"
            print_text(f"{place}: {one.severity}: {one.message} [{one.rule}]")
    _say_counts(findings, len(files))
    raise typer.Exit(lint_exit_code(findings))


@app.command("release")
def release_(name: str, as_json: Json = False) -> None:
    """Freeze NAME's draft as its next release."""
    released = release(open_store(), name)
    if as_json:
        print_json({"ref": released.ref, "digest": released.digest})
        return
    print_text(f"released {released.ref}, {released.digest}")
    say(f"see it with: cai constitution show {released.ref}")


@app.command()
def new(name: str, as_json: Json = False) -> None:
    """Begin a draft: an example to edit, or a copy of NAME's newest release."""
    path = new_draft(open_store(), name)
    if as_json:
        print_json({"ref": f"{name}@draft", "path": str(path)})
        return
    print_text(f"wrote {path}")
    say(f"edit it, then: cai constitution lint {path} && cai constitution release {name}")


def open_store() -> ConstitutionStore:
    """The store that the settings name."""
    return ConstitutionStore(load_settings().constitutions)


def as_dict(constitution: Constitution) -> dict[str, Any]:
    """The JSON form: reference and digest, then the content with what is set."""
    content = constitution.model_dump(mode="json", exclude_none=True)
    return {"ref": constitution.ref, "digest": constitution.digest, **content}


def yaml_files(path: Path) -> list[Path]:
    """A file itself, or the YAML files of a folder and its subfolders, sorted."""
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.yaml"))
    if not files:
        raise ConstitutionError("has no .yaml file; name another folder", path=path)
    return files


def lint_exit_code(findings: list[Finding]) -> int:
    """2 when a file cannot be used, 1 when one has another error, else 0."""
    rules = {one.rule for one in findings if one.severity == "error"}
    if rules & UNREADABLE:
        return 2
    return 1 if rules else 0


def short(digest: str | None) -> str:
    """Enough of a digest for the eye."""
    return (digest or "").removeprefix("sha256:")[:12]


def _principle_lines(principle: Principle) -> list[str]:
    tags = f"  [{', '.join(principle.tags)}]" if principle.tags else ""
    lines = [f"{principle.id}  weight {principle.weight:g}, {len(principle.cases)} cases{tags}"]
    for step in ("critique", "revision", "compare"):
        if (text := getattr(principle, step)) is not None:
            lines.append(f"  {step + ':':<10}{text}")
    return lines


def _say_counts(findings: list[Finding], num_files: int) -> None:
    counts = Counter(one.severity for one in findings)
    say(f"{num_files} files, {counts['error']} errors, {counts['warning']} warnings")
