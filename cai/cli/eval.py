"""`cai eval`: how good policies and judges are; each verb has a file of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from cai.cli import eval_ab, eval_arena, eval_bench, eval_judge, eval_policy, eval_report
from cai.cli.output import print_json, print_table, print_text, say
from cai.evaluate.results import FOLDER, folder_of, list_results, load
from cai.settings import load_settings

app = typer.Typer(
    name="eval",
    help="Evaluate: suites, judges held against people, arenas, A/B tests, benchmarks, reports.",
    add_completion=False,
    no_args_is_help=True,
)
app.command("policy")(eval_policy.command)
app.command("bench")(eval_bench.command)
app.command("judge")(eval_judge.command)
app.command("arena")(eval_arena.command)
app.command("ab")(eval_ab.command)
app.command("report")(eval_report.command)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the results that are kept, the newest first."""
    home = load_settings().home
    found = list_results(home)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    print_table(
        ("id", "kind", "policies", "suites", "judge", "created"),
        [
            (
                one.id,
                one.kind,
                ", ".join(policy.ref for policy in one.policies),
                ", ".join(suite.name for suite in one.suites),
                None if one.judge is None else one.judge.model,
                one.created_at,
            )
            for one in found
        ],
    )
    if not found:
        say(f"no result in {home / FOLDER}; make one with 'cai eval policy REF --suite NAME'")


@app.command()
def show(
    result: Annotated[str, typer.Argument(help="A result's id, or the path of its folder.")],
    as_json: Json = False,
) -> None:
    """Show a kept result: what was asked of whom, and its figures."""
    home = load_settings().home
    found = load(result, home)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_text(f"{found.id}  {found.kind}, {found.created_at}, in {folder_of(result, home)}")
    for policy in found.policies:
        print_text(f"policy  {policy.ref}  {policy.digest or policy.model}")
    if found.judge is not None:
        print_text(f"judge   {found.judge.address}  {found.judge.constitution or ''}".rstrip())
    for suite in found.suites:
        marks = f"  used for {', '.join(suite.used_for)}" if suite.used_for else ""
        print_text(f"suite   {suite.name} ({suite.split}){marks}")
    print_json(found.figures)
