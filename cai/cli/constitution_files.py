"""`cai constitution diff | import | export | changelog | publish`: in and out of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from cai.cli.constitution_common import Json, open_store, put_out
from cai.cli.output import print_json, print_text, say
from cai.constitution.diff import compare
from cai.constitution.exporting import FORMATS, exported
from cai.constitution.importing import import_file
from cai.constitution.store import parse_ref
from cai.errors import CaiError, ConfigError
from cai.evaluate.constitution_history import changelog_text, history, write_changelog
from cai.evaluate.constitution_pages import diff_page, published_page
from cai.evaluate.constitution_results import ResultStore
from cai.evaluate.constitution_text import diff_dict, diff_lines
from cai.settings import load_settings

Out = Annotated[Path | None, typer.Option("--out", help="File to write; without it, printed.")]


def diff(
    old: str,
    new: str,
    form: Annotated[
        Literal["text", "json", "html"], typer.Option("--format", help="text, json or html.")
    ] = "text",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Say what changed from OLD to NEW, principle by principle."""
    store = open_store()
    found = compare(store.get(old), store.get(new))
    if as_json or (form == "json" and out is None):
        print_json(diff_dict(found))
    elif form == "html":
        put_out(diff_page(found), out)
    elif form == "json":
        put_out(_json(diff_dict(found)), out)
    else:
        put_out("\n".join(diff_lines(found)) + "\n", out)


def import_(
    file: Annotated[Path, typer.Argument(help="A constitution in another form.")],
    name: Annotated[str, typer.Option("--name", help="Name of the draft to make.")],
    form: Annotated[
        str | None, typer.Option("--format", help="Its form; without it, told by the content.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the draft.")] = None,
    note: Annotated[
        str | None, typer.Option(help="Words on where it is from: licence, address, date.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a draft of FILE: Anthropic's JSON, llm-swarm's, a Model Spec, or JSON of ours."""
    done = import_file(open_store(), file, name=name, form=form, title=title, note=note)
    if as_json:
        print_json({**done._asdict(), "path": str(done.path), "ref": f"{name}@draft"})
        return
    print_text(
        f"wrote {done.path}: {done.num_principles} principles and {done.num_cases} cases "
        f"from the form {done.form}"
    )
    say(f"next: cai constitution lint {done.path} && cai constitution release {name}")


def export(
    ref: str,
    form: Annotated[str, typer.Option("--format", help=", ".join(FORMATS) + ".")] = "json",
    out: Out = None,
) -> None:
    """Write REF in another form, with what it extends written out."""
    put_out(exported(open_store().get(ref), form), out)


def changelog(
    name: str,
    write: Annotated[
        bool, typer.Option("--write", help="Write NAME/CHANGELOG.md beside the releases.")
    ] = False,
) -> None:
    """Print what changed from release to release; releasing writes it as well."""
    if write:
        say(f"wrote {write_changelog(open_store(), name)}")
    else:
        print_text(changelog_text(open_store(), name).removesuffix("\n"))


def publish(ref: str, out: Annotated[Path, typer.Option("--out", help="HTML file.")]) -> None:
    """Write a page for everyone: principles, reasons, cases, results of judges, changes."""
    settings = load_settings()
    store = open_store()
    constitution = store.get(ref)
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out} is a page of HTML; let its name end in .html", param="out")
    try:
        steps = history(store, parse_ref(ref).name)
    except CaiError:
        steps = []  # a draft that was never released, or a history that cannot be read
    results = ResultStore(settings.home).of(constitution.digest)
    put_out(published_page(constitution, history=steps, results=results), out)
    if not results:
        say(f"no judge has tested it; run: cai constitution test {ref} --engine ADDR")


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
