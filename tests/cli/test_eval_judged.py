"""`cai eval judge`, `arena` and `ab`: from files and a database to figures, and every refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cai.cli import eval_ab, eval_ab_act, policy
from cai.cli.main import main
from cai.cli.server_client import ServerClient
from cai.errors import ConfigError
from cai.policy.feedback import Feedback, FeedbackStore
from cai.policy.registry import PolicyRegistry
from cai.policy.traffic import TrafficStore
from cai.review.queue import ReviewQueue
from tests.cli.test_constitution_judged import JUDGE, KIND
from tests.constitution.helpers import write
from tests.evaluate.test_judge_metrics import outputs, written
from tests.policy.registering import opened, register
from tests.server.helpers import served
from tests.server.test_internal import app_with_a_split

Run = Callable[..., dict[str, Any]]
URL = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A judge and two policies in files, a constitution, and the folder of results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    write(tmp_path / "constitutions", text=KIND)
    (tmp_path / "judge.yaml").write_text(JUDGE)
    (tmp_path / "kind.yaml").write_text("rules:\n  - {answer: A kind answer.}\n")
    (tmp_path / "rude.yaml").write_text("rules:\n  - {answer: A rude answer.}\n")
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command with --json, and gives its answer."""

    def run(*args: object, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["eval", *map(str, args), "--json"]) == code, capsys.readouterr().err
        out = capsys.readouterr().out
        return json.loads(out) if out else {}

    return run


def judgebench(path: Path) -> Path:
    """Three pairs, of which the kind answer is the labelled one but in the last."""
    kind, rude = "A kind answer.", "A rude answer."
    lines = [
        {"question": f"Q{n}?", "response_A": a, "response_B": b, "label": label, "source": source}
        for n, (a, b, label, source) in enumerate(
            (
                (kind, rude, "A>B", "livebench-math"),
                (rude, kind, "B>A", "livebench-math"),
                (kind, rude, "B>A", "livecodebench"),
            )
        )
    ]
    return written(path / "pairs.jsonl", *lines)


def test_a_judge_is_held_against_a_file_and_the_result_is_kept(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of three labels are the judge's, in both orders: JudgeBench's score is 66.67."""
    argv = ["judge", "--data", judgebench(home.parent), "--engine", "scripted:judge.yaml"]
    argv += ["-c", "kind@draft"]
    told = run(*argv, "--out", "first")
    assert told["figures"]["judgebench"]["overall"]["score"] == pytest.approx(200 / 3, abs=1e-5)
    assert told["figures"]["accuracy"]["n"] == 3
    assert told["judge"]["constitution"] == "kind@draft"
    lines = (home / "evals" / "first" / "verdicts.jsonl").read_text().splitlines()
    assert [json.loads(line)["p_better"] > 0.5 for line in lines] == [True, True, False]
    assert main(["eval", *map(str, argv), "--principle", "warm"]) == 0
    shown = capsys.readouterr().out
    assert "3 pairs (judgebench)" in shown
    assert "66.67" in shown
    assert "each order prefers another" in shown
    assert run("show", "first")["kind"] == "judge"


def test_stored_judgments_are_counted_without_asking_and_kept(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the first three pairs one is correct."""
    argv = ["judge", "--data", str(outputs(home.parent)), "--stored"]
    assert run(*argv, "--out", "first")["figures"]["judgebench"]["overall"]["score"] == 37.5
    assert run("show", "first")["settings"]["data"] == "outputs.jsonl"
    figures = run(*argv, "--limit", 3)["figures"]
    assert (figures["pairs"], figures["correct"]["rate"]) == (3, pytest.approx(1 / 3, abs=1e-6))
    assert main(["eval", *argv]) == 0
    shown = capsys.readouterr().out
    assert "37.50" in shown
    assert "nulls" in shown


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--principle", "kid", "--engine", "scripted:judge.yaml"], "did you mean 'kind'"),
        (["--format", "judgebanch"], "did you mean 'judgebench'"),
        (["--reward", "no-such"], "no policy 'no-such'"),
        (["--reward", "x", "--stored"], "give one of --engine, --reward and --stored"),
        (["--stored", "--format", "hh"], "leave --format hh out"),
        (["--stored", "--limit", "0"], "--limit is 0; give 1 to"),
        (["--limit", "0"], "limit is 0"),
    ],
)
def test_what_a_judge_cannot_be_asked_is_refused(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    path = str(judgebench(home.parent))
    assert main(["eval", "judge", "--data", path, "-c", "kind@draft", *argv]) == 2
    assert told in capsys.readouterr().err
    assert not (home / "evals").exists()


def games(path: Path, won: int, lost: int) -> Path:
    lines = [
        {"prompt_id": n, "a": "new", "b": "old", "winner": "a" if n < won else "b"}
        for n in range(won + lost)
    ]
    return written(path / "games.jsonl", *lines)


def test_an_arena_is_rated_from_a_file(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["arena", "--data", str(games(home.parent, 30, 10)), "--bootstrap", "60"]
    told = run(*argv, "--out", "first")
    assert [one["policy"] for one in told["figures"]["players"]] == ["new", "old"]
    assert told["figures"]["sources"] == {"judge": 40}
    assert [(one["ref"], one.get("digest")) for one in told["policies"]] == [
        ("new", None), ("old", None),
    ]  # fmt: skip
    assert main(["eval", *argv]) == 0
    assert "75.0%" in capsys.readouterr().out
    again = ["arena", "--data", str(home / "evals" / "first" / "verdicts.jsonl"), "--bootstrap", 60]
    assert run(*again)["figures"]["players"] == told["figures"]["players"]


def test_an_arena_is_played(run: Run, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = written(home.parent / "prompts.jsonl", *({"prompt": f"Q{n}?"} for n in range(30)))
    argv = ["arena", "scripted:kind.yaml", "scripted:rude.yaml", "--prompts", str(prompts)]
    argv += ["--judge", "scripted:judge.yaml", "-c", "kind@draft", "--bootstrap", "60"]
    told = run(*argv)
    assert told["figures"]["players"][0]["policy"] == "scripted:kind.yaml"
    assert told["figures"]["comparisons"]["asked"] <= 12
    assert told["judge"]["address"] == "scripted:judge.yaml"
    assert set(told["files"]) == {"answers.jsonl", "verdicts.jsonl"}
    assert main(["eval", *argv]) == 0
    assert "in a full round robin" in capsys.readouterr().out


def arena_of(home: Path, other: str, num_prompts: int) -> list[str]:
    """The kind policy against another, before the judge."""
    asked = ({"id": f"q{n}", "prompt": f"Q{n}?"} for n in range(num_prompts))
    prompts = written(home.parent / "prompts.jsonl", *asked)
    argv = ["eval", "arena", "scripted:kind.yaml", f"scripted:{other}.yaml"]
    argv += ["--prompts", str(prompts), "--judge", "scripted:judge.yaml", "-c", "kind@draft"]
    return [*argv, "--bootstrap", "60"]


def test_an_arenas_answers_go_before_people_with_what_its_judge_said(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 30 pairs the judge was asked about as many as there are games."""
    assert main([*arena_of(home, "rude", 30), "--out", "first"]) == 0
    folder = home / "evals" / "first"
    assert f"cai review import {folder}" in capsys.readouterr().err
    assert main(["review", "import", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[str(folder)]["new"] == 30
    with opened(home) as database:
        items = [one.item for one in ReviewQueue(database).page(only_decided=False).records]
    judged = [one for one in items if one.opinions]
    assert len(judged) == len((folder / "verdicts.jsonl").read_text().splitlines())
    for one in judged:
        kind_first = one.answers[0][0]["content"] == "A kind answer."
        assert (one.p_a > 0.5) == kind_first
        assert one.policies[0 if kind_first else 1] == "scripted:kind.yaml"


def test_an_arena_that_could_rate_nobody_asks_nobody(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.4 of 20 comparisons are 8, and a policy is rated from 10 on."""
    (home.parent / "judge.yaml").unlink()  # whoever asked would say that it is not there
    assert main(arena_of(home, "rude", 20)) == 2
    told = capsys.readouterr().err
    assert "at most 8 comparisons here, and none could have the 10 games" in told
    assert not (home / "evals").exists()


def test_games_that_were_played_outlast_ratings_that_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.parent / "same.yaml").write_text((home.parent / "kind.yaml").read_text())
    assert main([*arena_of(home, "same", 30), "--out", "ties"]) == 2
    told = capsys.readouterr().err
    games = home / "evals" / "ties" / "verdicts.jsonl"
    assert "games are ties" in told
    assert f"cai eval arena --data {games}" in told
    assert len(games.read_text().splitlines()) == 12
    assert (games.parent / "answers.jsonl").exists()
    assert main(["eval", "list"]) == 0
    assert "ties" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "give either --data FILE or --prompts FILE"),
        (["--data", "games.jsonl", "--min-games", "1"], "--min-games is 1; give 2 to"),
        (["--data", "games.jsonl", "old", "newer"], "games.jsonl:1: no policy 'new' here"),
        (["--data", "one.jsonl"], "(games: new 1, old 1)"),
        (["--data", "empty.jsonl"], "there is no game in the file"),
    ],
)
def test_an_arena_that_cannot_be_rated_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    path = games(home.parent, 1, 0).rename("one.jsonl")
    assert path.exists()
    written(home.parent / "empty.jsonl")
    games(home.parent, 20, 10)
    assert main(["eval", "arena", *argv]) == 2
    assert told in capsys.readouterr().err
    assert not (home / "evals").exists()


def live_traffic(home: Path, live_up: int, new_up: int, num: int = 80) -> None:
    """`old` is live, the adapter `new` has half the traffic; so many of ten users are happy."""
    with opened(home) as database:
        registry = PolicyRegistry(database, home)
        registry.make_live(register(registry, home, "old"), "first", {}, "test")
        adapter = {"kind": "lora", "method": "dpo", "base": "old"}
        register(registry, home, "new", **adapter)
        TrafficStore(database).set({"new": 50.0}, actor="test")
        store = FeedbackStore(database)
        for number in range(num):
            for arm, up in (("live", live_up), ("new", new_up)):
                store.add(
                    Feedback(
                        messages=[{"role": "user", "content": f"Q{number}?"}],
                        response=f"{arm} says",
                        thumbs="up" if number % 10 < up else "down",
                        policy_id="old" if arm == "live" else "new",
                        arm=arm,
                        user_digest=f"{arm} {number}",
                    )
                )


def state(home: Path) -> tuple[str | None, dict[str, float]]:
    """Who is live, and the split."""
    with opened(home) as database:
        live = PolicyRegistry(database, home).live()
        return live and live.id, TrafficStore(database).current().split


def test_an_arm_that_is_better_is_promoted_when_that_is_asked_for(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live_traffic(home, live_up=4, new_up=8)
    told = run("ab")
    assert told["figures"]["recommendation"]["action"] == "promote"
    assert told["acted"] is None
    assert state(home)[0] == "old"
    assert run("ab", "--promote")["acted"]["id"] == "new"
    assert state(home)[0] == "new"
    with opened(home) as database:
        event = PolicyRegistry(database, home).events("new")[-1]
    assert event.reason.startswith("A/B test: new is better than live")
    assert event.figures["ab"]["n"] == 80


def test_an_arm_that_lost_is_taken_out_of_the_traffic(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live_traffic(home, live_up=8, new_up=4)
    assert run("ab", "--promote")["acted"] is None
    assert run("ab", "--rollback")["acted"]["split"] == {}
    assert state(home) == ("old", {})


def test_equal_arms_change_nothing(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live_traffic(home, live_up=6, new_up=6, num=40)
    assert run("ab", "--promote", "--rollback")["acted"] is None
    assert main(["eval", "ab", "--arms", "old", "new"]) == 0  # the live policy by its id
    shown = capsys.readouterr().out
    assert "continue: neither is shown to be better" in shown
    assert "valid at every look" in shown
    assert state(home) == ("old", {"new": 50.0})


def test_a_running_server_is_asked_to_promote(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_traffic(home, live_up=4, new_up=8)
    asked: list[tuple[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.method, request.url.path))
        return httpx2.Response(200, json={"id": "new", "state": "live", "split": {"new": 50.0}})

    def made(url: str, *, key_variable: str) -> ServerClient:
        transport = httpx2.MockTransport(answer)
        return ServerClient(url, key_variable=key_variable, transport=transport)

    monkeypatch.setattr(policy, "ServerClient", made)
    monkeypatch.setattr(eval_ab_act, "ServerClient", made)
    run("ab", "--promote", "--url", URL)
    run("ab", "--arms", "new", "live", "--rollback", "--url", URL)
    assert asked == [("POST", "/v1/policies/new/promote")]
    live = state(home)[0]
    assert live == "old"  # the registry is the server's to change


def test_a_server_is_asked_to_take_an_arm_out_of_the_split(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_traffic(home, live_up=8, new_up=4)
    asked: list[tuple[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.method, json.loads(request.content or b"null")))
        return httpx2.Response(200, json={"split": {"new": 50.0, "x": 5.0}})

    monkeypatch.setattr(
        eval_ab_act,
        "ServerClient",
        lambda url, *, key_variable: ServerClient(
            url, key_variable=key_variable, transport=httpx2.MockTransport(answer)
        ),
    )
    run("ab", "--rollback", "--url", URL)
    assert asked == [("GET", None), ("PUT", {"split": {"x": 5.0}})]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--metric", "thumb"], "did you mean 'thumbs'"),
        (["--alpha", "0"], "--alpha is 0"),
        (["--arms", "live", "nwe"], "no feedback from the arm 'nwe'; did you mean 'new'"),
        (["--arms", "live", "old"], "--arms names 'live' twice"),
        (["--metric", "rating"], "nobody gave rating to the arm 'live' yet"),
        (["--since", "today"], "--since is 'today'"),
        (["--since", "2999-01-01"], "no feedback from the arm 'live'"),
    ],
)
def test_an_ab_test_that_cannot_be_made_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    live_traffic(home, 5, 5, num=3)
    assert main(["eval", "ab", *argv]) == 2
    assert told in capsys.readouterr().err
    assert not (home / "evals").exists()


def test_arms_have_to_be_named_where_nothing_is_split(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "ab"]) == 2
    assert "the split has no policy beside live; name two with --arms" in capsys.readouterr().err


def test_a_judge_decides_between_the_arms_by_their_own_policies(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live's recorded answers are rude and new's are kind, as are those that each gives now."""
    live_traffic(home, 5, 5, num=20)
    with opened(home) as database:
        store = FeedbackStore(database)
        since = store.add(
            Feedback(messages=[{"role": "user", "content": "?"}], response="x", rating=3)
        ).at
        for number in range(30):
            for arm, text in (("live", "A rude answer."), ("new", "A kind answer.")):
                store.add(
                    Feedback(
                        messages=[{"role": "user", "content": f"R{number}?"}],
                        response=text,
                        rating=3,
                        policy_id="old" if arm == "live" else "new",
                        arm=arm,
                    )
                )
    from cai.cli import eval_ab
    from cai.evaluate import ab_judge, policy_eval

    async def opening(address: str) -> Any:
        from cai.engine.open import open_engine

        names = {"policy:live": "scripted:rude.yaml", "policy:new": "scripted:kind.yaml"}
        return await open_engine(names.get(address, address))

    assert eval_ab.judge_arms is ab_judge.judge_arms
    monkeypatch.setattr(policy_eval, "open_engine", opening)
    argv = ["--metric", "judge", "--judge", "scripted:judge.yaml", "-c", "kind@draft"]
    told = run("ab", *argv, "--since", since, "--limit", 40)
    assert told["figures"]["estimate"] == pytest.approx(0.9, abs=1e-3)
    assert told["figures"]["n"] == 40
    assert told["figures"]["recommendation"]["action"] == "promote"
    assert told["judge"]["address"] == "scripted:judge.yaml"


async def test_the_judge_asks_the_policies_that_the_servers_arms_stand_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that goes to `live` is the arm `new`'s now, so `live` itself cannot be asked for."""

    async def judge_arms(_records: object, _arms: object, addresses: object, *_: object, **__: Any):
        raise ConfigError(f"asked {addresses}")

    monkeypatch.setattr(eval_ab, "judge_arms", judge_arms)
    monkeypatch.setattr(eval_ab, "run_stoppable", asyncio.run)  # it runs in a thread here
    live_traffic(home, 5, 9)
    argv = ["eval", "ab", "--metric", "judge", "--judge", "scripted:judge.yaml", "-c", "kind@draft"]
    async with served(app_with_a_split(home.parent)) as (url, _):
        assert await asyncio.to_thread(main, [*argv, "--url", url]) == 2
    asked = f"{{'live': '{url}/v1#scripted', 'new': '{url}/v1#new'}}"
    assert asked in capsys.readouterr().err
