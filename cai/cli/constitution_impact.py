"""`cai constitution impact | attribution`: what a change would do, and who moved the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cai.cli.constitution_common import (
    EngineAddress,
    EngineArgs,
    Json,
    open_store,
    put_out,
    with_engine,
)
from cai.cli.output import print_json, print_table, print_text, progress
from cai.constitution.schema import Constitution
from cai.engine.base import Engine
from cai.errors import ConfigError
from cai.evaluate.attribution import Attribution, ask_ballots, attribute, ballots_of_rows
from cai.evaluate.constitution_pages import impact_page
from cai.evaluate.impact import Impact, preview
from cai.evaluate.impact_pairs import JudgedPair, read_pairs, read_prompts, sample_pairs
from cai.evaluate.impact_report import impact_dict, impact_lines, revision_lines
from cai.files import read_jsonl
from cai.types import Conversation


def impact(
    old: str,
    new: str,
    prompts: Annotated[
        Path, typer.Option("--prompts", help="Prompts, or pairs of answers: a file or a run.")
    ],
    engine: EngineAddress = None,
    engine_arg: EngineArgs = None,
    limit: Annotated[int, typer.Option(help="Most pairs to judge.")] = 400,
    revise: Annotated[int, typer.Option(help="Prompts to revise under both.")] = 8,
    revisions: Annotated[int, typer.Option(help="Critique-revision steps of those.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides the draws of principles.")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Preview what replacing OLD by NEW would do to labels and revisions.

    Judges the same pairs under both, asking what they share once. A file of prompts is answered
    twice by the engine; a file of preferences, or a run, has its pairs judged.
    """
    store = open_store()
    both = store.get(old), store.get(new)
    _check_counts(limit=limit, revise=revise, revisions=revisions)
    pairs = read_pairs(prompts, limit=limit)

    async def work(judge: Engine) -> Impact:
        return await _preview(judge, both, pairs, prompts, limit, revise, revisions, seed)

    found = with_engine(engine, engine_arg, work)
    if html is not None:
        put_out(impact_page(found), html)
    if as_json:
        print_json(impact_dict(found))
        return
    for line in (*impact_lines(found), *revision_lines(found)):
        print_text(line)


def attribution(
    run: Annotated[Path, typer.Argument(help="A run directory, or a file of preferences.")],
    constitution: Annotated[
        str | None, typer.Option("-c", "--constitution", help="The constitution it was made with.")
    ] = None,
    engine: EngineAddress = None,
    engine_arg: EngineArgs = None,
    limit: Annotated[int, typer.Option(help="Most pairs to judge anew, with --engine.")] = 400,
    as_json: Json = False,
) -> None:
    """Say which principles moved the labels of RUN, which say the same, and which never matter.

    Reads the votes that the run stored; with --engine each principle is asked about each pair,
    which also tells what a constitution would say of two policies' answers.
    """
    found = None if constitution is None else open_store().get(constitution)
    if engine is None:
        attributed = _stored(run, found)
    elif found is None:
        raise ConfigError("--engine asks every principle of one: name it with -c", param="engine")
    else:
        attributed = _asked_anew(run, found, engine, engine_arg, limit)
    if as_json:
        print_json(attributed.as_dict())
    else:
        _print_attribution(attributed)


async def _preview(
    judge: Engine,
    both: tuple[Constitution, Constitution],
    pairs: list[JudgedPair] | None,
    prompts: Path,
    limit: int,
    revise: int,
    revisions: int,
    seed: int,
) -> Impact:
    if pairs is None:
        asked = read_prompts(prompts, limit=limit)
        with progress("answering", len(asked)) as bar:
            pairs = await sample_pairs(judge, asked, seed=seed, on_pair=bar.advance)
    to_revise = _distinct(pairs)[:revise]
    with progress("judging", len(pairs) + len(to_revise)) as bar:
        return await preview(
            *both,
            judge,
            pairs,
            seed=seed,
            revise_prompts=to_revise,
            revisions=revisions,
            on_done=bar.advance,
        )


def _distinct(pairs: Sequence[JudgedPair]) -> list[tuple[str, Conversation]]:
    return [(id, prompt) for prompt, id in {pair.conversation: pair.id for pair in pairs}.items()]


def _check_counts(**counts: int) -> None:
    for name, number in counts.items():
        if number < (0 if name == "revise" else 1):
            raise ConfigError(f"--{name} is {number}; give a number from 1 on", param=name)


def _stored(run: Path, constitution: Constitution | None) -> Attribution:
    rows = run / "rows.jsonl" if run.is_dir() else run
    composition = "mean" if constitution is None else constitution.composition
    ids = [] if constitution is None else [one.id for one in constitution.candidates("compare")]
    vetoes = (
        []
        if constitution is None
        else [one.id for one in constitution.principles if "veto" in one.tags]
    )
    ballots = list(ballots_of_rows(read_jsonl(rows), vetoes=vetoes))
    if not ballots:
        raise ConfigError(
            f"{rows} has no row with a label; ask a judge with -c REF --engine ADDR", param="run"
        )
    return attribute(ballots, composition, principles=ids)


def _asked_anew(
    run: Path, constitution: Constitution, engine: str, args: Sequence[str] | None, limit: int
) -> Attribution:
    pairs = read_pairs(run, limit=limit)
    if pairs is None:
        raise ConfigError(f"{run} has no pairs of answers; name a run or preferences", param="run")

    async def work(judge: Engine) -> Attribution:
        with progress("judging", len(pairs)) as bar:
            ballots = await ask_ballots(judge, constitution, pairs, on_pair=bar.advance)
        ids = [one.id for one in constitution.candidates("compare")]
        return attribute(ballots, constitution.composition, principles=ids)

    return with_engine(engine, args, work)


def _print_attribution(found: Attribution) -> None:
    print_text(f"{found.num_labels} labels, {found.num_decisive} of them decisive")
    print_table(
        ("principle", "votes", "of the decisive", "turned without it", "mean P(first)", ""),
        [
            (
                one.id,
                one.num_votes,
                f"{one.share_decisive:.1%}",
                one.num_turned,
                f"{one.mean_p_a:.3f}",
                "never matters" if one.never_matters else "",
            )
            for one in found.shares
        ],
    )
    for pair in found.redundant:
        print_text(
            f"{pair.first} and {pair.second} say the same: correlation {pair.correlation:.2f} "
            f"over {pair.num_shared} pairs"
        )
