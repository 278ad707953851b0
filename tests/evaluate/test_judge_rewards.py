"""Reward models as judges: a real folder, and an address that answers as ours does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai.errors import CaiError, InputError, PolicyError
from cai.evaluate.judge_data import KnownPair
from cai.evaluate.judge_rewards import open_reward, score_each
from cai.evaluate.judge_verdicts import ask_reward
from cai.feedback.labels import sigmoid
from cai.types import Message
from tests.server.helpers import served
from tests.server.test_rewards import LengthReward, make_app
from tests.train.pairs import write_reward_model

ASKED = (Message("user", "How do I boil an egg?"),)


def pair(better: str, worse: str) -> KnownPair:
    return KnownPair("1", ASKED, better, worse, "first", "1")


async def test_a_trained_folder_scores_and_leaves_out_what_it_cannot_read(
    tmp_path: Path, model_folder: Path
) -> None:
    folder = write_reward_model(tmp_path / "rm", model_folder)
    model = open_reward(str(folder), tmp_path, device="cpu")
    try:
        short = [(ASKED, "Seven minutes."), (ASKED, "No.")]
        long = (ASKED, "egg " * 5000)
        first, cut, second = await score_each(model, [short[0], long, short[1]])
        assert [first, second] == pytest.approx(await model.score(short), abs=1e-5)
        assert cut is None
        told, lost = await ask_reward(
            model, [pair(*(text for _, text in short)), pair("a", long[1])]
        )
        assert told.p_better == pytest.approx(sigmoid((first or 0) - (second or 0)), abs=1e-5)
        assert told.scores is not None
        assert lost.problem == "not-scored"
        assert model.digest is not None
    finally:
        await model.aclose()


async def test_an_address_is_asked_by_the_calls_of_our_own_server(tmp_path: Path) -> None:
    """The server's model gives each answer the number of its letters."""
    async with served(make_app(tmp_path, LengthReward())) as (url, _):
        model = open_reward(url, tmp_path)
        try:
            (verdict,) = await ask_reward(model, [pair("longer", "short")])
        finally:
            await model.aclose()
    assert model.name == f"{url}/v1/rewards"
    assert verdict.scores is not None
    better, worse = verdict.scores
    assert verdict.p_better == pytest.approx(sigmoid(better - worse))


async def test_an_address_without_a_reward_model_fails(tmp_path: Path) -> None:
    async with served(make_app(tmp_path, None)) as (url, _):
        model = open_reward(url, tmp_path)
        try:
            with pytest.raises(CaiError, match="no reward model"):
                await ask_reward(model, [pair("longer", "short")])
        finally:
            await model.aclose()


def test_a_policy_is_no_reward_model(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(PolicyError):
        open_reward(str(model_folder), tmp_path)


async def test_a_model_that_can_read_nothing_fails_with_its_own_words(tmp_path: Path) -> None:
    class Blind:
        name, digest = "blind", None

        async def score(self, answers: object) -> list[float]:
            raise InputError("item 0 has 5000 tokens")

        async def aclose(self) -> None:
            return None

    with pytest.raises(InputError, match="item 0 has 5000 tokens"):
        await ask_reward(Blind(), [pair("one", "two")])
