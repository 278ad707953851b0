"""`cai eval judge`: a judge, or a reward model, held against what people preferred."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.constitution_common import EngineAddress, EngineArgs, Json, open_store, with_engine
from cai.cli.eval_common import check_ranges, kept
from cai.cli.output import print_json, print_table, print_text, progress, say
from cai.cli.stoppable import run_stoppable
from cai.engine.base import Engine
from cai.errors import ConfigError
from cai.evaluate.judge_data import FORMATS, Known, read_judgments, read_known
from cai.evaluate.judge_eval import (
    JudgeEvaluation,
    check_principles,
    evaluate_judge,
    evaluate_reward,
)
from cai.evaluate.judge_published import judgebench_figures
from cai.evaluate.judge_rewards import open_reward
from cai.evaluate.results import EvalResult, check_id, new_id, now, save
from cai.files import digest_file
from cai.settings import Settings, load_settings
from cai.stats.intervals import rate_of

_RATES = {
    "accuracy": "accuracy (none counts as wrong, a tie as half)",
    "accuracy_given_verdict": "accuracy where there is a verdict",
    "accuracy_first_order": "better answer shown first",
    "accuracy_second_order": "better answer shown second",
    "accuracy_both_orders": "right in both orders",
    "inconsistent": "each order prefers another",
}


def command(
    data: Annotated[Path, typer.Option("--data", help="Pairs that people labelled.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "auto",
    engine: EngineAddress = None,
    engine_arg: EngineArgs = None,
    constitution: Annotated[
        str, typer.Option("-c", "--constitution", help="What the judge goes by.")
    ] = "harmless",
    principle: Annotated[
        list[str] | None,
        typer.Option(help="Ask by this principle; repeatable. Left out, one is drawn per pair."),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(help="A reward model in place of a judge: a name, a folder, or its address."),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="Ask nobody: the file is an output of JudgeBench's."),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many records.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the draws of principles.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="Id of the result; left out, one with the time in it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold a judge against people: accuracy, orders, length, calibration, agreement.

    Benchmarks' own figures stand beside those: RewardBench's sections, JudgeBench's counts.
    """
    if sum((engine is not None, reward is not None, stored)) > 1:
        raise ConfigError("give one of --engine, --reward and --stored", param="engine")
    settings = load_settings({"judge": engine})
    if out is not None:
        check_id(settings.home, out)
    if stored:
        result = _stored(data, format, limit, out)
        path = save(settings.home, result)
        if as_json:
            print_json(kept(path, settings.home))
            return
        _print_judgebench(result.figures["judgebench"])
        say(f"kept in {path}; see it with: cai eval show {result.id}")
        return
    known = read_known(data, format=format, limit=limit)
    if reward is not None:
        found = _by_reward(reward, known, settings)
    else:
        found = _by_judge(settings, engine_arg, constitution, principle or [], known, seed)
    result = found.result(data, seed=seed, id=out, limit=limit, principles=principle or [])
    path = save(settings.home, result, found.files())
    if as_json:
        print_json(kept(path, settings.home))
        return
    _print(result.figures)
    say(f"kept in {path}; see it with: cai eval show {result.id}")


def _by_judge(
    settings: Settings,
    engine_args: list[str] | None,
    constitution: str,
    principles: list[str],
    known: Known,
    seed: int,
) -> JudgeEvaluation:
    found, address = open_store().get(constitution), settings.judge or settings.engine
    check_principles(found, principles)

    async def work(judge: Engine) -> JudgeEvaluation:
        with progress("judging", len(known.pairs)) as bar:
            return await evaluate_judge(
                judge,
                address,
                found,
                known,
                principles=principles,
                seed=seed,
                on_pair=bar.advance,
            )

    return with_engine(address, engine_args, work)


def _by_reward(ref: str, known: Known, settings: Settings) -> JudgeEvaluation:
    async def run() -> JudgeEvaluation:
        model = open_reward(ref, settings.home, device=settings.reward_device)
        try:
            with progress("scoring answers") as bar:
                return await evaluate_reward(model, ref, known, on_pair=bar.advance)
        finally:
            await model.aclose()

    return run_stoppable(run())


def _stored(data: Path, format: str, limit: int | None, id: str | None) -> EvalResult:
    """The record of verdicts that JudgeBench's own program wrote."""
    if format not in ("auto", "judgebench"):
        raise ConfigError(
            f"--stored reads JudgeBench's outputs; leave --format {format[:40]} out", param="format"
        )
    check_ranges(limit=(limit, 1, 1_000_000))
    judgments = read_judgments(data)[:limit]
    found = judgebench_figures(judgments)
    rate = rate_of(found["overall"]["correct"], len(judgments))
    assert rate is not None, "a file without a pair is refused"
    return EvalResult(
        id=id or new_id("judge"),
        kind="judge",
        created_at=now(),
        settings={"data": data.name, "data_digest": digest_file(data), "limit": limit},
        figures={
            "format": "judgebench",
            "pairs": len(judgments),
            "correct": rate.as_dict(),
            "judgebench": found,
        },
    )


def _print(figures: Mapping[str, Any]) -> None:
    left_out = ", ".join(f"{n} {why}" for why, n in figures.get("left_out", {}).items())
    missing = ", ".join(f"{n} {why}" for why, n in figures.get("no_verdict", {}).items())
    print_text(f"{figures['pairs']} pairs ({figures['format']})")
    if missing:
        print_text(f"without a label: {missing}")
    if left_out:
        print_text(f"left out of the file: {left_out}")
    rows = [(words, *_cells(figures[name])) for name, words in _RATES.items() if name in figures]
    length = figures.get("length", {})
    for name in ("longer_wins", "longer_is_right"):
        if name in length:
            rows.append((f"the {name.replace('_', ' ')}", *_cells(length[name])))
    print_table(("", "rate", "95 %", "n"), rows)
    for words, value in _numbers(figures):
        print_text(f"{words}: {value}")
    _print_published(figures)


def _numbers(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that are no rates."""
    places = (
        ("position bias", figures, "position_bias"),
        ("length and verdict, correlation", figures.get("length", {}), "correlation"),
        ("length and label, correlation", figures.get("length", {}), "correlation_of_labels"),
        ("ECE", figures.get("calibration", {}), "ece"),
        ("Brier score", figures.get("calibration", {}), "brier"),
        ("temperature that would fit", figures.get("calibration", {}), "temperature"),
        ("Cohen's κ with the labels", figures.get("agreement", {}), "cohen_kappa"),
        (
            "Fleiss' κ of the labelers",
            figures.get("agreement", {}).get("people", {}),
            "fleiss_kappa",
        ),
        ("Fleiss' κ with the judge", figures.get("agreement", {}), "fleiss_with_judge"),
    )
    return [(words, f"{where[name]:.4f}") for words, where, name in places if name in where]


def _print_published(figures: Mapping[str, Any]) -> None:
    if "judgebench" in figures:
        _print_judgebench(figures["judgebench"])
    if "rewardbench" in figures:
        shown = figures["rewardbench"].items()
        print_table(("RewardBench", "score"), [(name, f"{value:.4f}") for name, value in shown])
    if "rewardbench2" in figures:
        found = figures["rewardbench2"]
        rows = [(name, f"{one['score']:.4f}") for name, one in found["subsets"].items()]
        print_table(("RewardBench 2", "score"), [*rows, ("score", f"{found['score']:.4f}")])


def _print_judgebench(figures: Mapping[str, Any]) -> None:
    counts = ("correct", "incorrect", "tie", "inconsistent", "nulls")
    shown = [count for count in counts if count in figures["overall"]]
    print_table(
        ("JudgeBench", "score", "n", *shown),
        [
            (name, f"{one['score']:.2f}", one["n"], *(one[count] for count in shown))
            for name, one in figures.items()
        ],
    )


def _cells(rate: Mapping[str, Any]) -> tuple[str, str, int]:
    low, high = rate["ci"]
    return f"{rate['rate']:.2%}", f"{low:.2%} to {high:.2%}", rate["n"]
