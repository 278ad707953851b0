"""Where PPO's rewards come from, the judge above all: what it says, and what it cannot say."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cai.feedback.judge import Judge
from cai.train.items import RenderedText
from cai.train.rollouts import Episode
from cai.types import Message
from tests.feedback.helpers import constitution, judge_engine, longer_wins

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's own, at import
    from cai.train.ppo_rewards import (
        Answer,
        JudgeRewards,
        ModelRewards,
        PpoPrompt,
        RemoteRewards,
        shaped,
    )

BASELINE = "Boil it for a while."


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as running:
        yield running


def answer(text: str, *, ids: tuple[int, ...] = (7, 2)) -> Answer:
    prompt = PpoPrompt("one", (Message("user", "How do I boil an egg?"),), (5, 6))
    return Answer(prompt, Episode((5, 6), ids, (-1.0,) * len(ids), True), text)


def judged(runner: asyncio.Runner, engine: Any, *texts: str) -> list[float | None]:
    rewards = JudgeRewards(runner, Judge(engine), constitution("kind"), {"one": BASELINE}, seed=7)
    return rewards.score([answer(text) for text in texts])


def test_the_judges_reward_is_the_probability_to_beat_the_reference(runner):
    """It prefers the longer answer at 0.9, in both orders."""
    better, worse = judged(
        runner, judge_engine(longer_wins(0.9)), BASELINE + " Then peel.", "Boil."
    )
    assert better == pytest.approx(0.9)
    assert worse == pytest.approx(0.1)


@pytest.mark.parametrize("text", [BASELINE, BASELINE + "\n", "Boil  it for a while."])
def test_the_references_own_answer_is_a_tie_that_is_not_asked_about(runner, text):
    engine = judge_engine(longer_wins(0.9))
    assert judged(runner, engine, text) == [0.5]
    assert engine.num_calls == 0


def test_an_undecided_judge_says_a_half(runner):
    assert judged(runner, judge_engine(lambda *_: 0.5), "Boil it.") == [0.5]


@pytest.mark.parametrize("text", ["", "   ", "...", "no no no no no no no no"])
def test_an_answer_that_cannot_be_judged_loses(runner, text):
    engine = judge_engine(longer_wins(0.9))
    assert judged(runner, engine, text) == [0.0]
    assert engine.num_calls == 0


def test_no_verdict_is_no_reward(runner):
    """The letters hold a tenth of the probability: that is no verdict, and never 0 or 0.5."""
    assert judged(runner, judge_engine(longer_wins(0.9), mass=0.1), "Boil it.") == [None]


def test_a_reward_model_reads_prompt_and_answer_as_the_policys_tokens():
    seen: list[Any] = []
    scorer: Any = SimpleNamespace(score=lambda items: seen.extend(items) or [1.5])
    assert ModelRewards(scorer).score([answer("Boil it.", ids=(7, 8, 2))]) == [1.5]
    assert seen == [[5, 6, 7, 8, 2]]


def word_tokenizer(*words: str) -> Any:
    """Decodes as SentencePiece does, without the first word's space, and tidies up by default."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "?"))
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=True)


def test_a_remote_reward_model_is_sent_the_text_as_it_was_sampled(runner):
    """Prompt and answer are decoded as one: the answer keeps its space, and " ," its own."""

    class Remote:
        async def score(self, items: Any) -> list[float]:
            self.items = items
            return [0.25]

    remote: Any = Remote()
    tokenizer = word_tokenizer("[ask]", "▁How", "?", "[say]", "▁Boil", "▁it", "▁,", ".")
    asked = Answer(
        PpoPrompt("one", (), (0, 1, 2, 3)), Episode((0, 1, 2, 3), (4, 5, 6, 7), (), True), ""
    )
    assert RemoteRewards(runner, remote, tokenizer).score([asked]) == [0.25]
    assert remote.items == [RenderedText("[ask] How?[say] Boil it ,.", "[ask] How?[say]")]


def test_rewards_are_clipped_before_the_penalty_is_taken():
    """12 is held at 10; the answer that was cut loses 1.5 of that."""
    assert shaped(12, has_ended=True, clip=10, missing_eos_penalty=1.5) == 10
    assert shaped(12, has_ended=False, clip=10, missing_eos_penalty=1.5) == 8.5
    assert shaped(-12, has_ended=True, clip=None, missing_eos_penalty=1.5) == -12
