"""`cai constitution lint`: findings for people, for machines, and as GitHub's annotations."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from cai.cli.constitution_common import ExitZero, Json, open_store
from cai.cli.output import print_json, print_text, say
from cai.constitution.lint import UNREADABLE, Finding, lint, open_findings
from cai.constitution.lint_fix import FIXABLE, fix
from cai.constitution.lint_rules import RULES
from cai.constitution.schema import NAME_PATTERN
from cai.constitution.store import parse_ref
from cai.errors import ConstitutionError

Format = Literal["text", "json", "github"]

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, or references; default: all constitutions."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--fix", help="Repair what needs no decision; tell what is left.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    form: Annotated[
        Format, typer.Option("--format", help="text, json, or github for its annotations.")
    ] = "text",
    as_json: Json = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and end.")] = False,
    exit_zero: ExitZero = False,
) -> None:
    """Check constitution files: exit 2 when one cannot be used, 1 for other errors.

    A comment "# lint: allow RULE: reason", in or above a finding's line, answers it;
    "allow-file" answers all of a file.
    """
    if rules:
        _print_rules()
        return
    files = [file for path in paths or [str(open_store().root)] for file in yaml_files(path)]
    if repair:
        for file in files:
            _repair(file)
    findings = [finding for file in files for finding in lint(file)]
    _print(findings, "json" if as_json else form)
    _say_counts(findings, len(files))
    raise typer.Exit(0 if exit_zero else exit_code(findings, strict=strict))


def yaml_files(text: str) -> list[Path]:
    """A file itself, the file behind name@version, or the YAML files under a folder, sorted."""
    path = Path(text)
    if not path.is_dir():
        name, at, _ = text.partition("@")
        is_ref = at and NAME_PATTERN.fullmatch(name) and not path.exists()
        return [_file_of(text)] if is_ref else [path]
    files = sorted(path.rglob("*.yaml"))
    if not files:
        raise ConstitutionError("has no .yaml file; name another folder", path=path)
    return files


def _file_of(ref: str) -> Path:
    asked = parse_ref(ref)
    assert asked.version is not None, "a reference with an @ has a version"
    return open_store().path(asked.name, asked.version)


def exit_code(findings: list[Finding], *, strict: bool = False) -> int:
    """2 when a file cannot be used, 1 for another error (a warning too when strict), else 0."""
    counted = ("error", "warning") if strict else ("error",)
    rules = {one.rule for one in open_findings(findings) if one.severity in counted}
    if rules & UNREADABLE:
        return 2
    return 1 if rules else 0


def annotation(finding: Finding) -> str:
    """A finding as GitHub's workflow command, which shows it beside the line of a change.

    >>> annotation(Finding("no-case", "warning", "100 % sure", Path("a,b.yaml"), 3, 5))
    '::warning file=a%2Cb.yaml,line=3,col=5,title=no-case::100 %25 sure'
    """
    message = _escaped(finding.message, "%\r\n")
    path = _escaped(str(finding.path), "%\r\n:,")
    place = f"file={path},line={finding.line},col={finding.column},title={finding.rule}"
    return f"::{_LEVELS[finding.severity]} {place}::{message}"


def _escaped(text: str, unsafe: str) -> str:
    return re.sub(f"[{unsafe}]", lambda found: f"%{ord(found.group()):02X}", text)


def _print(findings: list[Finding], form: Format) -> None:
    if form == "json":
        print_json([one.as_dict() for one in findings])
        return
    for one in open_findings(findings):
        if form == "github":
            print_text(annotation(one))
        else:
            place = f"{one.path}:{one.line}:{one.column}"
            print_text(f"{place}: {one.severity}: {one.message} [{one.rule}]")


def _repair(file: Path) -> None:
    done = fix(file)
    for one in done.repaired:
        say(f"{file}:{one.line}: repaired: {one.message} [{one.rule}]")
    if done.kept is not None:
        say(f"{file}: not repaired: {done.kept}")


def _print_rules() -> None:
    for rule in RULES:
        repairable = "  (--fix)" if rule.id in FIXABLE else ""
        print_text(f"{rule.severity:<8}{rule.id}{repairable}")


def _say_counts(findings: list[Finding], num_files: int) -> None:
    counts = Counter(one.severity for one in open_findings(findings))
    allowed = len(findings) - counts.total()
    answered = f", {allowed} allowed with a reason" if allowed else ""
    notes = f", {counts['note']} notes" if counts["note"] else ""
    say(
        f"{num_files} {'file' if num_files == 1 else 'files'}, {counts['error']} errors, "
        f"{counts['warning']} warnings{notes}{answered}"
    )
