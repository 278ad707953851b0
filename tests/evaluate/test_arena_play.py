"""An arena that is played by scripted policies before a judge that reads marks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cai.dataset.prompts import PromptRow
from cai.engine.scripted import ScriptedEngine
from cai.errors import ConfigError, ContextLengthError, NotFoundError
from cai.evaluate.arena import ArenaConfig, rate_players
from cai.evaluate.arena_play import ArenaPlan, Played, play_arena
from cai.evaluate.arena_schedule import ScheduleConfig
from cai.types import Message
from tests.evaluate.taste import judge, made, principle
from tests.evaluate.test_policy_eval import opening

KIND = made(principle("kind"))
PROMPTS = tuple(
    PromptRow(
        f"sha256:{number}", (Message("user", f"Question {number}?"),), number, source_id=number
    )
    for number in range(30)
)
ALL = ScheduleConfig(share=1.0, min_games=4)


def plan(*policies: str, **fields: Any) -> ArenaPlan:
    values = {"prompts": PROMPTS, "judge": "scripted:judge.yaml", "constitution": KIND, **fields}
    return ArenaPlan(tuple(f"scripted:{name}.yaml" for name in policies), **values)


def saying(mark: str) -> ScriptedEngine:
    """Says to each question that it is a question, and its mark."""
    return ScriptedEngine.answering(lambda text: f"About {text} I say {mark}")


def play(asked: ArenaPlan, /, **answers: ScriptedEngine) -> Played:
    return asyncio.run(play_arena(asked, open_at=opening(judge=judge(model="taste"), **answers)))


def test_policies_are_rated_in_the_order_of_the_judge_with_fewer_than_all_comparisons() -> None:
    """good says kind+, even says nothing, bad says kind-: 0.9 for each over the next."""
    engines = {"good": saying("kind+"), "even": saying("well"), "bad": saying("kind-")}
    found = play(plan(*engines, schedule=ALL), **engines)
    assert found.stopped == "resolved"
    assert found.num_asked < found.num_round_robin == 90
    assert found.no_verdict == {}
    arena = rate_players(found.games, ArenaConfig(bootstrap=60, min_games=4))
    assert [player.name for player in arena.players] == [
        *("scripted:good.yaml", "scripted:even.yaml", "scripted:bad.yaml"),
    ]
    assert {round(game.result, 3) for game in found.games} <= {0.9, 0.1}
    assert found.judge.model == "taste"
    assert found.comparisons()["share"] < 1.0


def test_the_same_answer_twice_is_a_tie() -> None:
    engines = {"one": saying("kind+"), "two": saying("kind+")}
    found = play(plan(*engines, schedule=ALL), **engines)
    assert {game.result for game in found.games} == {0.5}
    assert len(found.games) == 30


def test_a_verdict_that_is_none_is_counted_and_no_game() -> None:
    engines = {"good": saying("kind+"), "mute": ScriptedEngine.answering(lambda _text: "...")}
    found = play(plan(*engines, schedule=ALL), **engines)
    assert found.games == []
    assert found.no_verdict == {"degenerate": 30}
    assert found.comparisons()["no_verdict"] == {"degenerate": 30}


def test_prompts_that_a_policy_cannot_read_are_left_to_the_others() -> None:
    def some(text: str) -> str:
        if text in ("Question 3?", "Question 4?"):
            raise ContextLengthError("the prompt has too many tokens")
        return f"About {text} I say kind-"

    engines = {"good": saying("kind+"), "some": ScriptedEngine.answering(some)}
    found = play(plan(*engines, schedule=ALL), **engines)
    assert found.num_round_robin == 28
    assert found.answers["scripted:some.yaml"][3:5] == [None, None]


def test_every_game_has_the_lengths_and_the_prompt_of_its_answers() -> None:
    engines = {"good": saying("kind+"), "bad": saying("kind- indeed")}
    found = play(plan(*engines), **engines)
    for game in found.games:
        assert isinstance(game.prompt_id, int)
        for name, length in ((game.a, game.len_a), (game.b, game.len_b)):
            assert length == len(found.answers[name][game.prompt_id] or "")


@pytest.mark.parametrize("policies", [(), ("one",), ("one", "one")])
def test_an_arena_needs_two_policies(policies: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="two policies or more, each named once"):
        plan(*policies).check()


def test_a_policy_that_cannot_be_loaded_is_named_before_any_engine(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAI_HOME", str(tmp_path))
    one = ArenaPlan(("sandbox", "no-such"), PROMPTS, "scripted:judge.yaml", KIND)
    with pytest.raises(NotFoundError, match="no-such"):
        one.check()


def test_answers_are_kept_with_their_prompts_under_the_ids_that_games_have() -> None:
    """The prompts' own ids count where each has its own, else those made of the prompts."""

    def some(text: str) -> str:
        if text == "Question 3?":
            raise ContextLengthError("the prompt has too many tokens")
        return "kind-"

    engines = {"good": saying("kind+"), "some": ScriptedEngine.answering(some)}
    asked = plan(*engines)
    found = play(asked, **engines)
    lines = {(line["policy"], line["prompt"]): line for line in found.lines(asked)}
    assert len(lines) == 60
    assert lines["scripted:some.yaml", 2]["messages"] == [
        {"role": "user", "content": "Question 2?"},
        {"role": "assistant", "content": "kind-"},
    ]
    assert lines["scripted:some.yaml", 3]["answers"] == []
    assert {(game.a, game.prompt_id) for game in found.games} <= set(lines)
    twice = [*PROMPTS[:2], PROMPTS[2]._replace(source_id="1")]
    assert plan(prompts=twice).prompt_ids == ["sha256:0", "sha256:1", "sha256:2"]
