"""`cai eval policy`: policies asked a suite's prompts, with rates, paired tests and examples."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli import eval_common
from cai.cli.constitution_common import Json, open_store
from cai.cli.output import print_json, print_table, print_text, say
from cai.cli.stoppable import run_stoppable
from cai.errors import ConflictError
from cai.evaluate.policy_eval import check_unchanged, evaluate
from cai.evaluate.policy_plan import Plan
from cai.evaluate.results import EvalResult, check_id, load, save
from cai.evaluate.suite_answers import AskConfig
from cai.settings import load_settings

MAX_SHOWN = 3
_ANSWER_CHARS = 160


def command(
    policies: Annotated[
        list[str], typer.Argument(help="Policies (sandbox, a name, live), or engines' addresses.")
    ],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped suite, or a file as in ./mine.yaml; repeatable. Left out, those that "
            "fit the first policy's world."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Engine that decides the checks by a judge.")
    ] = None,
    constitution: Annotated[
        str | None,
        typer.Option("-c", "--constitution", help="Where checks name principles: of this one."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers to each prompt, 1 to 64.")] = 1,
    temperature: Annotated[float, typer.Option(help="Sampling temperature, 0 to 2.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of one answer.")] = 512,
    seed: Annotated[int, typer.Option(help="Decides what engines that honour seeds sample.")] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Only the first so many prompts of each suite.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Conversations at work at once.")] = 64,
    with_oracle: Annotated[
        bool, typer.Option("--with-oracle", help="Set the small world's oracle beside its suites.")
    ] = False,
    text_only: Annotated[
        bool,
        typer.Option(
            "--text-only",
            help="Leave checks by a judge undecided: what has one is not measured.",
        ),
    ] = False,
    out: Annotated[
        str | None, typer.Option(help="Id of the result; left out, one with the time in it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure POLICIES on suites: how often each commits the suite's fault, with 95 % intervals.

    Each two policies are compared prompt by prompt by an exact paired test. Lower is better. The
    answers, every check and the figures are kept: see 'cai eval show'.
    """
    eval_common.check_ranges(
        samples=(samples, 1, 64),
        temperature=(temperature, 0, 2),
        max_tokens=(max_tokens, 1, 1_000_000),
        seed=(seed, 0, 2**63 - 1),
        limit=(limit, 1, 1_000_000),
        concurrency=(concurrency, 1, 4096),
    )
    settings = load_settings({"judge": judge})
    plan = Plan(
        policies=tuple(policies),
        suites=tuple(dict.fromkeys(suite or ())),
        judge=settings.judge,
        constitution=None if constitution is None else open_store().get(constitution),
        ask=AskConfig(samples, temperature, max_tokens, seed, concurrency),
        limit=limit,
        with_oracle=with_oracle,
        text_only=text_only,
    )
    result = _kept(settings.home, out, plan) or _measure(settings.home, out, plan)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    _print(result)
    say(f"kept; see it with: cai eval show {result.id}")


def _kept(home: Path, out: str | None, plan: Plan) -> EvalResult | None:
    """What the same command measured before, as after a crash of who asked for it."""
    if out is None:
        return None
    try:
        check_id(home, out)
    except ConflictError:
        plan.check()
        if plan.is_plan_of(kept := load(out, home)):
            run_stoppable(check_unchanged(kept))
            say(f"'{out}' was measured before, on the same prompts; nothing is asked again")
            return kept
        raise
    return None


def _measure(home: Path, out: str | None, plan: Plan) -> EvalResult:
    with contextlib.ExitStack() as bars:
        found = run_stoppable(evaluate(plan, progress=eval_common.Bars(bars).progress))
    return load(save(home, found.result(plan, out), found.files()), home)


def _print(result: EvalResult) -> None:
    for name, figures in result.figures["suites"].items():
        uses = ["training"] if figures["split"] == "train" else []
        uses = sorted({*figures["used_for"], *uses})
        marks = f", used for {', '.join(uses)}" if uses else ""
        print_text(f"\n{name}  {figures['fault']}, {figures['prompts']} prompts{marks}")
        print_table(
            ("policy", "rate", "95 %", "n", "not measured", "empty", "cut", "oracle", "worst tag"),
            [_row(policy, found) for policy, found in figures["policies"].items()],
        )
        for pair in figures.get("pairs", ()):
            print_text(_pair(pair))
        for policy, examples in figures["worst"].items():
            for one in examples[:MAX_SHOWN]:
                said = " ".join(one["answer"].split())[:_ANSWER_CHARS]
                print_text(f"  {policy} {one['prompt']} ({one['check']}): {said or '(empty)'}")


def _row(policy: str, found: Mapping[str, Any]) -> tuple[object, ...]:
    missing = ", ".join(f"{n} {why}" for why, n in found.get("not_measured", {}).items())
    oracle = found.get("oracle", {}).get("rate")
    tags = {tag: rate["rate"] for tag, rate in found.get("tags", {}).items()}
    top = max(tags, key=lambda tag: tags[tag], default=None)
    worst_tag = None if top is None or not tags[top] else f"{top} {tags[top]:.1%}"
    shown = (None, None, 0) if "rate" not in found else _rate(found["rate"])
    return (
        policy,
        *shown,
        missing or None,
        found.get("empty"),
        found.get("cut"),
        None if oracle is None else _rate(oracle)[0],
        worst_tag,
    )


def _rate(rate: Mapping[str, Any]) -> tuple[str, str, int]:
    low, high = rate["ci"]
    return f"{rate['rate']:.1%}", f"{low:.1%} to {high:.1%}", rate["n"]


def _pair(pair: Mapping[str, Any]) -> str:
    low, high = pair["ci"]
    return (
        f"  {pair['first']} less {pair['second']}: {pair['difference']:+.1%} "
        f"[{low:+.1%}, {high:+.1%}], p = {pair['p_value']:.3g} "
        f"({pair['first_only']} prompts worse, {pair['second_only']} better, of {pair['n']})"
    )
