"""`cai demo`: the whole of Constitutional AI on the bundled model under vLLM, judged by the oracle.

Writes `report.json`, `report.html` and everything that was made on the way under CAI_HOME/demo.
The stages are in `demo_loop` and `demo_training`.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from cai.cli.demo_loop import (
    Judged,
    choose_examples,
    judged_transcripts,
    shower,
    write_prompts,
)
from cai.cli.demo_show import print_report
from cai.cli.output import print_json, progress, say
from cai.cli.stoppable import stopping_on_sigterm
from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.engine.open import open_engine
from cai.errors import ConfigError, NotFoundError
from cai.evaluate.demo_report import Example, Pairing, render
from cai.evaluate.report import Outcome, build_report
from cai.files import replace_json, replace_text
from cai.pipeline import Summary, run
from cai.pipeline_config import GenerateConfig
from cai.sandbox.prompts import prompts
from cai.settings import Settings, load_settings

CONSTITUTIONS = ("harmless", "helpful-honest")
"""What the trained policies learn from."""


def command(
    num: Annotated[int, typer.Option("-n", "--num", min=10, max=20_000, help="Prompts.")] = 200,
    constitution: Annotated[
        str, typer.Option("-c", "--constitution", help="name@2, name@draft or name.")
    ] = "harmless",
    revisions: Annotated[
        int, typer.Option(min=1, max=8, help="Critique-revision steps per prompt.")
    ] = 2,
    trains: Annotated[
        bool | None,
        typer.Option(
            "--train/--no-train",
            help="Train on what the loop makes, or stop there. [default: train the bundled model]",
            show_default=False,
        ),
    ] = None,
    num_train: Annotated[
        int, typer.Option(min=50, max=20_000, help="Prompts per dataset; some take a share.")
    ] = 1200,
    num_each: Annotated[
        int, typer.Option(min=20, max=20_000, help="Held-out prompts of each kind per policy.")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Draws prompts and principles.")] = 0,
    engine: Annotated[str | None, typer.Option(help="Engine that answers and judges.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Critique and revise, rank, train on what comes of it, and report: some ten minutes."""
    settings = load_settings({"engine": engine})
    if trains is None:
        trains = settings.engine == "sandbox"
    if trains and settings.engine != "sandbox":
        raise ConfigError(f"the demo trains the bundled model, not {settings.engine}; --no-train")
    folder = settings.home / "demo"
    config = _loop_config(settings, folder, constitution, revisions=revisions, seed=seed)
    store = ConstitutionStore(settings.constitutions)
    store.get(constitution)
    learned = _learned(store) if trains else ()
    if folder.exists():
        shutil.rmtree(folder)
    plan = Plan(config, store, folder, num, learned, (num_train, num_each))
    report, examples, pairings = _run(plan)
    replace_json(folder / "report.json", report)
    replace_text(folder / "report.html", render(report, examples, pairings))
    if as_json:
        print_json(report)
    else:
        print_report(report, examples, folder)


class Plan(NamedTuple):
    """What one demo does. `learned` is what it trains on, if it trains; `sizes` are of that."""

    config: GenerateConfig
    store: ConstitutionStore
    folder: Path
    num: int
    learned: Sequence[Constitution]
    sizes: tuple[int, int]


def _run(plan: Plan) -> tuple[dict[str, Any], list[Example], list[Pairing]]:
    started = time.monotonic()
    asked = prompts("heldout", None, plan.num, plan.config.seed)
    write_prompts(plan.config.prompts, asked)
    say(f"starting the engine on {plan.config.engine}")
    pairings: list[Pairing] = []
    with stopping_on_sigterm(), asyncio.Runner() as runner:
        engine = runner.run(open_engine(plan.config.engine))
        try:
            summary = _loop(runner, plan, engine)
            judged = list(judged_transcripts(plan.config.out, asked))
            report = _loop_report(summary, judged)
            if plan.learned:
                figures, pairings = _train(runner, engine, plan, *plan.sizes)
                report = _joined(report, figures)
        finally:
            runner.run(engine.aclose())
    report["seconds_total"] = round(time.monotonic() - started, 1)
    return report, choose_examples(judged), pairings


def _learned(store: ConstitutionStore) -> tuple[Constitution, ...]:
    """What the demo trains on. Raises ConfigError where the users' folder has it not."""
    try:
        return tuple(store.get(name) for name in CONSTITUTIONS)
    except NotFoundError as exc:
        raise ConfigError(
            f"the demo trains on {' and '.join(CONSTITUTIONS)}: {exc}; give --no-train, or let "
            "CAI_CONSTITUTIONS name a folder with both"
        ) from None


def _loop_report(summary: Summary, judged: Sequence[Judged]) -> dict[str, Any]:
    return build_report(
        summary.manifest,
        [Outcome(one.kind, one.verdicts) for one in judged],
        policy=judged[0].row["policy"]["id"] if judged else "none",
        rows_per_s=summary.progress.rows_per_s,
        seconds_total=summary.progress.seconds,
    )


def _loop_config(
    settings: Settings, folder: Path, constitution: str, *, revisions: int, seed: int
) -> GenerateConfig:
    return GenerateConfig(
        prompts=folder / "prompts.jsonl",
        out=folder / "run",
        constitution=constitution,
        engine=settings.engine,
        revisions=revisions,
        seed=seed,
    )


def _loop(runner: asyncio.Runner, plan: Plan, engine: Engine) -> Summary:
    constitution = plan.store.get(plan.config.constitution)
    with progress("prompts", plan.num) as bar:
        return runner.run(
            run(plan.config, constitution, mode="fresh", engine=engine, on_progress=shower(bar))
        )


def _train(
    runner: asyncio.Runner, engine: Any, plan: Plan, num_train: int, num_each: int
) -> tuple[dict[str, Any], list[Pairing]]:
    from cai.cli.demo_training import Sizes, Training

    sizes = Sizes(dataset=num_train, each=num_each, judged=2 * num_each, kl=num_each)
    training = Training(runner, engine, plan.store, plan.folder, sizes, seed=plan.config.seed)
    trained = training.run([one.ref for one in plan.learned], plan.config.engine)
    digests = {one.ref: one.digest for one in plan.learned}
    return {**trained.figures(), "constitution_digests": digests}, trained.pairings()


def _joined(report: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """The loop's report with what training adds; the dataset is the one that was trained on.

    The constitutions are all that spoke, the loop's own first.
    """
    digests = {**report["constitution_digests"], **figures.pop("constitution_digests")}
    figures |= {"constitutions": list(digests), "constitution_digests": digests}
    judge = {**report.get("judge", {}), **figures.pop("judge")}
    judge.pop("pairs", None)  # the loop's; the pairs of the report are the dataset's
    dataset = {**report["dataset"], **figures.pop("dataset")}
    return {**report, **figures, "judge": judge, "dataset": dataset}
