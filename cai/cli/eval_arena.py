"""`cai eval arena`: policies rated by games between them, from a file or played now."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.constitution_common import Json, open_store
from cai.cli.eval_common import Bars, check_ranges, kept
from cai.cli.output import print_json, print_table, print_text, say
from cai.cli.stoppable import run_stoppable
from cai.errors import ConfigError, DataError
from cai.evaluate.arena import ArenaConfig, rate_players
from cai.evaluate.arena_data import Game, read_games
from cai.evaluate.arena_play import ArenaPlan, Played, play_arena
from cai.evaluate.arena_records import Arena
from cai.evaluate.arena_schedule import ScheduleConfig
from cai.evaluate.impact_pairs import read_prompts
from cai.evaluate.results import (
    EvalResult,
    PolicyRef,
    check_id,
    new_id,
    now,
    save,
    save_lines,
)
from cai.files import digest_file
from cai.settings import load_settings


def command(
    policies: Annotated[
        list[str] | None,
        typer.Argument(help="Policies or engines' addresses that play; with --data, those known."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Games as JSON lines.")] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Prompts that the policies answer.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Engine that compares answers.")] = None,
    constitution: Annotated[
        str, typer.Option("-c", "--constitution", help="What the judge goes by.")
    ] = "harmless",
    principle: Annotated[
        list[str] | None, typer.Option(help="Compare by this principle; repeatable.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Most comparisons, as a share of a full round robin.")
    ] = 0.4,
    confidence: Annotated[
        float, typer.Option(help="Probability of an order from which it is settled.")
    ] = 0.99,
    min_games: Annotated[int, typer.Option(help="Games below which none is rated, from 2.")] = 10,
    bootstrap: Annotated[int, typer.Option(help="Samples for the intervals, from 50.")] = 400,
    temperature: Annotated[float, typer.Option(help="Sampling temperature, 0 to 2.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of one answer.")] = 512,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.")] = None,
    seed: Annotated[int, typer.Option(help="Decides draws, schedule and samples.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="Id of the result; left out, one with the time in it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rate policies by games between them: Bradley-Terry with intervals, Elo beside it.

    With --data the games are read. Without, POLICIES answer the prompts and a judge compares, most
    where the order is open, until it is settled or the budget is spent.
    """
    if (data is None) == (prompts is None):
        raise ConfigError("give either --data FILE or --prompts FILE with policies", param="data")
    settings = load_settings({"judge": judge})
    if out is not None:
        check_id(settings.home, out)
    check_ranges(
        share=(share, 1e-6, 1),
        confidence=(confidence, 0.500001, 0.999999),
        min_games=(min_games, 2, 1_000_000),
        bootstrap=(bootstrap, 50, 10_000),
        temperature=(temperature, 0, 2),
        max_tokens=(max_tokens, 1, 1_000_000),
        limit=(limit, 1, 1_000_000),
    )
    config = ArenaConfig(min_games=min_games, bootstrap=bootstrap, seed=seed)
    id = out or new_id("arena")
    played, answers = None, list[dict[str, Any]]()
    if data is not None:
        games = read_games(data, known=policies or ())
    else:
        assert prompts is not None, "one of both is given"
        plan = ArenaPlan(
            policies=tuple(policies or ()),
            prompts=read_prompts(prompts, limit=limit),
            judge=settings.judge or settings.engine,
            constitution=open_store().get(constitution),
            principles=tuple(principle or ()),
            schedule=ScheduleConfig(share=share, confidence=confidence, min_games=min_games),
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
        )
        played = _play(plan)
        games, answers = list(played.games), played.lines(plan)
    files = _files(games, answers)
    if played is None:
        found = rate_players(games, config)
    else:
        folder, _ = save_lines(settings.home, id, files)
        found = _rated(games, config, folder)
    result = _result(found, config, games, played, data, id)
    path = save(settings.home, result, files)
    if as_json:
        print_json(kept(path, settings.home))
        return
    _print(found, played)
    say(f"kept in {path}; see it with: cai eval show {result.id}")
    if played is not None:
        say(f"people can decide as well: cai review import {path}")


def _play(plan: ArenaPlan) -> Played:
    with ExitStack() as bars:
        return run_stoppable(play_arena(plan, progress=Bars(bars).progress))


def _rated(games: list[Game], config: ArenaConfig, folder: Path) -> Arena:
    """The ratings of games that were played; where there are none, where the games are kept."""
    try:
        return rate_players(games, config)
    except DataError as exc:
        raise DataError(
            f"{exc.message}; the games and answers are kept in {folder}, the games to be rated "
            f"with: cai eval arena --data {folder / 'verdicts.jsonl'}"
        ) from exc


def _result(
    found: Arena,
    config: ArenaConfig,
    games: list[Game],
    played: Played | None,
    data: Path | None,
    id: str,
) -> EvalResult:
    names = dict.fromkeys(name for game in games for name in (game.a, game.b))
    refs = tuple(PolicyRef(ref=name, model=name) for name in names)
    figures = found.as_dict()
    settings: dict[str, Any] = config.model_dump(exclude={"seed"})
    if played is not None:
        figures["comparisons"] = played.comparisons()
    if data is not None:
        settings |= {"data": data.name, "data_digest": digest_file(data)}
        figures["sources"] = dict(sorted(Counter(game.source for game in games).items()))
    return EvalResult(
        id=id,
        kind="arena",
        created_at=now(),
        policies=refs if played is None else played.policies,
        judge=None if played is None else played.judge,
        seed=config.seed,
        settings=settings,
        figures=figures,
    )


def _files(games: list[Game], answers: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    files = {"verdicts.jsonl": [game.as_dict() for game in games]}
    return {**files, "answers.jsonl": answers} if answers else files


def _print(found: Arena, played: Played | None) -> None:
    equal = {} if found.style is None else found.style.ratings
    print_table(
        ("rank", "policy", "rating", "95 %", "at equal length", "Elo", "games", "won"),
        [
            (
                _span(player.ranks),
                player.name,
                f"{player.rating:.0f}" + ("" if player.is_bounded else " (bounded by the prior)"),
                f"{player.ci.low:.0f} to {player.ci.high:.0f}",
                f"{equal[player.name][0]:.0f}" if player.name in equal else None,
                f"{player.elo:.0f}",
                player.share.n,
                f"{player.share.rate:.1%}",
            )
            for player in found.players
        ],
    )
    for name, num in found.unrated.items():
        print_text(f"not rated: {name}, with {num} games")
    if found.style is not None:
        low, high = found.style.ci
        print_text(
            f"length: {found.style.weight:+.3f} log-odds per standard deviation "
            f"({low:+.3f} to {high:+.3f})"
        )
    if played is not None:
        print_text(
            f"{played.num_asked} comparisons of {played.num_round_robin} in a full round robin "
            f"({played.num_asked / played.num_round_robin:.1%}); stopped: {played.stopped}"
        )
        for reason, num in played.no_verdict.items():
            print_text(f"without a verdict: {num} {reason}")


def _span(ranks: tuple[int, int]) -> str:
    best, worst = ranks
    return str(best) if best == worst else f"{best}-{worst}"
