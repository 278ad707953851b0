"""`cai constitution test`: a constitution's cases before a judge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.constitution_common import (
    EngineAddress,
    EngineArgs,
    ExitZero,
    Json,
    open_store,
    put_out,
    with_engine,
)
from cai.cli.output import print_json, print_text, progress, say
from cai.engine.base import Engine
from cai.evaluate.constitution_results import ResultStore, junit, told_before, verdict
from cai.evaluate.constitution_tests import CaseResult, TestReport, cases_of, run_tests
from cai.settings import load_settings


def command(
    ref: str,
    engine: EngineAddress = None,
    engine_arg: EngineArgs = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only cases with this tag; repeatable.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="The better answer has to win in each order.")
    ] = False,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")
    ] = None,
    as_json: Json = False,
    exit_zero: ExitZero = False,
) -> None:
    """Put REF's cases to a judge: by each principle, by all together, and against one another.

    Exit 1 when a case fails or principles contradict. The result is kept, by the digests of the
    constitution and of the judge, and compared with that of the judge before.
    """
    constitution = open_store().get(ref)
    tags = tuple(tag or ())
    num = len(list(cases_of(constitution, tags)))
    num *= len(constitution.candidates("compare"))

    async def work(judge: Engine) -> TestReport:
        with progress(f"testing {constitution.ref}", num) as bar:
            return await run_tests(
                constitution, judge, tags=tags, strict=strict, on_answer=bar.advance
            )

    report = with_engine(engine, engine_arg, work)
    kept = ResultStore(load_settings().home)
    before = kept.before(report)
    path = kept.save(report)
    if junit_file is not None:
        put_out(junit(report), junit_file)
    if as_json:
        print_json({**report.as_dict(), "path": str(path)})
    else:
        _print_tests(report, before)
    raise typer.Exit(0 if report.passed or exit_zero else 1)


def _print_tests(report: TestReport, before: dict[str, Any] | None) -> None:
    earlier = told_before(before)
    last = "" if before is None else before["judge"]["model"]
    for part, results in (("cases", report.cases), ("whole", report.whole)):
        held = sum(one.passed for one in results)
        words = "by their own principle" if part == "cases" else f"by all ({report.composition})"
        print_text(f"{held} of {len(results)} cases hold {words}")
        for one in results:
            _print_case(one, earlier.get((part, one.key)), last)
    for contradiction in report.contradictions:
        print_text(
            f"CONTRADICTION  {contradiction.first} and {contradiction.second}: each prefers the "
            "worse answers of the other's cases"
        )
    for tension in report.tensions:
        print_text(
            f"tension  {tension.principle} prefers the worse answers of {tension.on}'s cases "
            f"(P(better) {tension.p_better:.2f})"
        )
    if report.untested:
        say(f"without a case of their own here: {', '.join(report.untested)}")
    counts = Counter(one.principle for one in report.cases)
    say(
        f"{report.ref} {'passed' if report.passed else 'failed'} with {report.judge.model}: "
        f"{len(report.cases)} cases of {len(counts)} principles, at least "
        f"{min(counts.values())} of each; {report.num_questions} questions"
    )


def _print_case(one: CaseResult, held_before: bool | None, last: str) -> None:
    """A failure, a case that flips with the order, or one that went otherwise before."""
    name = f"{one.principle} case {one.number}: {one.prompt}"
    changed = held_before is not None and held_before != one.passed
    if not one.passed:
        then = f"; it held with {last}" if held_before else ""
        print_text(f"FAILED  {name}\n        {verdict(one)}{then}")
    elif changed:
        print_text(f"now holds  {name}; it failed with {last}")
    elif one.flips:
        print_text(f"flips with the order  {name}\n        {verdict(one)}")
