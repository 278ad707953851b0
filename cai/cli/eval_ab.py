"""`cai eval ab`: two arms of live traffic compared, at any time, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cai.cli.constitution_common import Json, open_store
from cai.cli.eval_ab_act import act
from cai.cli.eval_common import Bars, check_ranges, kept
from cai.cli.output import print_json, print_table, print_text, say
from cai.cli.server_client import KEY_VARIABLE
from cai.cli.stoppable import run_stoppable
from cai.engine.open import pinned
from cai.errors import ConfigError, ConflictError
from cai.evaluate.ab import (
    ABTest,
    Arms,
    Recommendation,
    block_ratio,
    check_arms,
    compare_arms,
    compare_wins,
    recommend,
)
from cai.evaluate.ab_judge import Wins, judge_arms
from cai.evaluate.policy_eval import Progress
from cai.evaluate.results import EvalResult, PolicyRef, check_id, new_id, now, save
from cai.policy.assignment import LIVE
from cai.registry import choices
from cai.settings import Settings, load_settings

if TYPE_CHECKING:
    from cai.policy.feedback import StoredFeedback

METRICS = ("thumbs", "rating", "judge")


class _Traffic(NamedTuple):
    """What the database has of the arms: the split, the feedback since, and who was live before."""

    split: dict[str, float]
    since: str | None
    records: list[StoredFeedback]
    live: str | None
    before_live: str | None


def command(
    arms: Annotated[
        tuple[str, str] | None,
        typer.Option(help="The arm held against and the one on trial; else live and the split's."),
    ] = None,
    metric: Annotated[str, typer.Option(help=f"One of {', '.join(METRICS)}.")] = "thumbs",
    alpha: Annotated[float, typer.Option(help="Error allowed over all looks together.")] = 0.05,
    margin: Annotated[
        float, typer.Option(help="Stop when the difference is surely smaller than this; 0: never.")
    ] = 0.0,
    since: Annotated[
        str | None, typer.Option(help="Only feedback from this time on (ISO 8601); else the split.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Engine that compares, for judge.")] = None,
    constitution: Annotated[
        str, typer.Option("-c", "--constitution", help="What the judge goes by.")
    ] = "harmless",
    limit: Annotated[
        int, typer.Option(help="Most prompts that the judge is asked on: the first.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="Decides the judge's draws of principles.")] = 0,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the arm live if the test says so.")
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback",
            help="Go back, or take the arm that lost out of the traffic, if the test says so.",
        ),
    ] = False,
    url: Annotated[str | None, typer.Option(help="The running server; else CAI_URL's.")] = None,
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", help="Variable that holds a key with the scope admin.")
    ] = KEY_VARIABLE,
    out: Annotated[
        str | None, typer.Option(help="Id of the result; left out, one with the time in it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two arms of live traffic by a test that may be looked at any time.

    Reads the feedback in the database that the settings name. Each user counts once in an arm.
    """
    if metric not in METRICS:
        raise ConfigError(f"no metric '{metric[:60]}'{choices(metric, METRICS)}", param="metric")
    check_ranges(
        alpha=(alpha, 1e-6, 0.5),
        margin=(margin, 0, 1),
        limit=(limit, 1, 100_000),
        seed=(seed, 0, 2**62),
    )
    settings = load_settings({"url": url, "judge": judge})
    if out is not None:
        check_id(settings.home, out)
    traffic = _read(settings, since)
    both = _arms(arms, traffic)
    wins = None
    if metric == "judge":
        wins = _judge(settings, traffic, both, constitution, limit, seed)
        test = compare_wins(wins.values, both, alpha=alpha, no_verdict=wins.no_verdict)
    else:
        test = compare_arms(
            traffic.records,
            both,
            "thumbs" if metric == "thumbs" else "rating",
            alpha=alpha,
            ratio=block_ratio(traffic.split, both),
        )
    advice = recommend(test, before_live=traffic.before_live, margin=margin)
    result = _result(test, advice, traffic, wins, margin=margin, seed=seed, id=out)
    path = save(settings.home, result)
    acted = act(advice, settings, test, api_key_env, promote=promote, rollback=rollback)
    if as_json:
        print_json({**kept(path, settings.home), "acted": acted})
        return
    _print(test, advice, acted)
    if wins is not None and len(wins.values) + wins.no_verdict >= limit:
        say(f"the judge was asked on the first {limit} prompts; for more, raise --limit")
    say(f"kept in {path}; see it with: cai eval show {result.id}")


def _read(settings: Settings, since: str | None) -> _Traffic:
    from cai.db import open_database  # here, since other verbs need no database
    from cai.policy.feedback import FeedbackStore
    from cai.policy.registry import PolicyRegistry
    from cai.policy.traffic import TrafficStore

    with open_database(settings) as database:
        setting = TrafficStore(database).current()
        start = _time(since) if since is not None else setting.at
        registry = PolicyRegistry(database, settings.home, roots=settings.policy_roots)
        live = registry.live()
        try:
            before = registry.rollback_target().id
        except ConflictError:
            before = None
        every = FeedbackStore(database).records()
        records = [one for one in every if start is None or one.at >= start]
    return _Traffic(setting.split, start, records, None if live is None else live.id, before)


def _arms(named: tuple[str, str] | None, traffic: _Traffic) -> Arms:
    """The arms that are compared; a live policy named by its id is the arm `live`."""
    if named is None:
        if len(traffic.split) != 1:
            told = ", ".join(traffic.split) or "no policy"
            raise ConfigError(
                f"the split has {told} beside live; name two with --arms live POLICY", param="arms"
            )
        arms = Arms(LIVE, *traffic.split)
    else:
        arms = Arms(*(LIVE if one == traffic.live else one for one in named))
    if arms.a == arms.b:
        raise ConfigError(f"--arms names '{arms.a}' twice; name two", param="arms")
    check_arms(traffic.records, arms)
    return arms


def _judge(
    settings: Settings, traffic: _Traffic, arms: Arms, constitution: str, limit: int, seed: int
) -> Wins:
    """Where a server runs, it answers for the arms; else each policy's own engine does."""
    base = settings.url and settings.url.rstrip("/").removesuffix("/v1")
    addresses = {arm: f"{base}/v1#{arm}" if base else f"policy:{arm}" for arm in arms}

    async def run(progress: Progress) -> Wins:
        return await judge_arms(
            traffic.records,
            arms,
            {arm: await pinned(address) for arm, address in addresses.items()},
            await pinned(settings.judge or settings.engine),
            open_store().get(constitution),
            limit=limit,
            seed=seed,
            progress=progress,
        )

    with ExitStack() as bars:
        return run_stoppable(run(Bars(bars).progress))


def _result(
    test: ABTest,
    advice: Recommendation,
    traffic: _Traffic,
    wins: Wins | None,
    *,
    margin: float,
    seed: int,
    id: str | None,
) -> EvalResult:
    return EvalResult(
        id=id or new_id("ab"),
        kind="ab",
        created_at=now(),
        policies=tuple(
            PolicyRef(ref=arm, model=traffic.live or arm if arm == LIVE else arm)
            for arm in test.arms
        ),
        judge=None if wins is None else wins.judge,
        seed=seed,
        settings={"since": traffic.since, "split": traffic.split, "margin": margin},
        figures={**test.as_dict(), "recommendation": advice._asdict()},
    )


def _time(text: str) -> str:
    """A time as the database has it."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since is '{text[:60]}'; write a time as 2030-01-31T12:00:00+00:00", param="since"
        ) from None
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds")


def _print(test: ABTest, advice: Recommendation, acted: dict[str, Any] | None) -> None:
    rows: list[Sequence[object]] = []
    for arm in test.arms:
        told = test.per_arm[arm]
        rate = told.get("up") or told.get("win_rate")
        value = f"{rate['rate']:.1%}" if rate else told.get("mean_rating")
        rows.append((arm, told["n"], value))
    words = {"thumbs": "thumbs up", "rating": "mean rating", "judge": "won"}
    print_table(("arm", "n", words[test.metric]), rows)
    print_text(f"p = {test.p_value:.4g}, valid at every look; alpha {test.alpha:g}")
    if test.repeated:
        print_text(f"{test.repeated} more by the same users were not counted")
    arm = f" {advice.arm}" if advice.arm else ""
    print_text(f"{advice.action}{arm}: {advice.why}")
    if acted is not None:
        print_text(f"done: {advice.action}{arm}")
