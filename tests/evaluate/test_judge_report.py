"""A judge with known tastes, and reward models, held against labelled pairs: figures by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cai.errors import ConfigError, EngineError, InputError
from cai.evaluate.judge_data import Known, KnownPair
from cai.evaluate.judge_eval import check_principles, evaluate_judge, evaluate_reward
from cai.evaluate.judge_report import judge_figures, length_figures
from cai.evaluate.judge_rewards import Answered, open_reward
from cai.evaluate.judge_verdicts import Verdict
from cai.feedback.labels import PairRead, sigmoid
from cai.types import Message
from tests.feedback.helpers import constitution, judge_engine, longer_wins

ASKED = (Message("user", "How do I boil an egg?"),)
TASTE = constitution("kind")
LONG, SHORT = "A long and thorough answer.", "A short one."


def pair(number: int, better: str, worse: str, **fields: Any) -> KnownPair:
    values = {"side": "first", "group": str(number), **fields}
    return KnownPair(str(number), ASKED, better, worse, **values)


def known(*pairs: KnownPair, format: str = "preferences") -> Known:
    return Known(format, pairs, {}, None, "sha256:0")


def verdict(one: KnownPair, p_ab: float, p_ba: float) -> Verdict:
    read = PairRead({}, {}, p_ab, p_ba, (1.0, 1.0))
    return Verdict(one, read, (p_ab + p_ba) / 2)


async def figures(p_first: Any, data: Known) -> dict[str, Any]:
    found = await evaluate_judge(judge_engine(p_first), "scripted:x", TASTE, data)
    return judge_figures(data, found.verdicts, has_orders=True)


async def test_a_judge_of_length_is_right_where_the_longer_answer_is() -> None:
    """It says 0.9 for the longer: right on three of four, each wrong one with 0.9 as well.

    Brier (3 · 0.01 + 0.81) / 4; one bin of confidence 0.9 with 3 of 4 right: ECE 0.15.
    """
    data = known(*(pair(n, LONG, SHORT) for n in range(3)), pair(3, SHORT, LONG, side="second"))
    found = await figures(longer_wins(0.9), data)
    assert found["accuracy"]["rate"] == 0.75
    assert found["accuracy"]["n"] == 4
    assert found["accuracy_both_orders"]["rate"] == 0.75
    assert found["inconsistent"]["rate"] == 0.0
    assert found["position_bias"] == pytest.approx(0.0, abs=1e-9)
    assert found["calibration"]["brier"] == pytest.approx(0.21)
    assert found["calibration"]["ece"] == pytest.approx(0.15)
    assert found["calibration"]["bins"] == [{"confidence": 0.9, "accuracy": 0.75, "n": 4}]
    assert found["length"]["longer_wins"]["rate"] == 1.0
    assert found["length"]["longer_is_right"]["rate"] == 0.75
    assert found["length"]["accuracy_if_longer_is_right"]["rate"] == 1.0
    assert found["length"]["accuracy_if_shorter_is_right"]["rate"] == 0.0
    assert found["length"]["correlation"] == pytest.approx(1.0)
    assert found["length"]["correlation_of_labels"] == pytest.approx(0.5)  # three with, one against
    assert found["labels"] == {"human": 4}


async def test_a_judge_of_position_is_inconsistent_and_its_bias_is_measured() -> None:
    """First place with 0.8, whatever stands there: right in one order each, a tie together."""
    data = known(pair(0, LONG, SHORT), pair(1, SHORT, LONG))
    found = await figures(lambda _a, _b, _q: 0.8, data)
    assert found["accuracy_first_order"]["rate"] == 1.0
    assert found["accuracy_second_order"]["rate"] == 0.0
    assert found["accuracy_both_orders"]["rate"] == 0.0
    assert found["inconsistent"]["rate"] == 1.0
    assert found["position_bias"] == pytest.approx(0.3)
    assert found["no_verdict"] == {"tie": 2}
    assert found["accuracy"]["rate"] == 0.5
    assert "accuracy_given_verdict" not in found


async def test_a_missing_verdict_is_counted_and_never_a_label() -> None:
    data = known(pair(0, LONG, SHORT), pair(1, "", SHORT), pair(2, LONG, LONG))
    found = await figures(longer_wins(0.9), data)
    assert found["no_verdict"] == {"empty": 1, "identical": 1}
    assert found["accuracy"]["rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["accuracy"]["n"] == 3
    assert found["accuracy_given_verdict"] == {"rate": 1.0, "n": 1, "ci": [0.206549, 1.0]}
    assert found["calibration"]["n"] == 1


async def test_a_judge_without_any_verdict_has_no_calibration_at_all() -> None:
    data = known(pair(0, LONG, SHORT))
    engine = judge_engine(longer_wins(0.9), mass=0.1)
    found = await evaluate_judge(engine, "scripted:x", TASTE, data)
    told = judge_figures(data, found.verdicts, has_orders=True)
    assert told["no_verdict"] == {"low-mass": 1}
    assert told["accuracy"]["rate"] == 0.0
    assert not {"calibration", "length", "agreement", "inconsistent", "position_bias"} & set(told)


def test_kappa_is_told_with_the_labels_and_with_each_labeler() -> None:
    """Judge f f s s; labels f s s s: 3 of 4 agree, by chance 2·1/16 + 2·3/16 = 1/2, so κ = 1/2.

    Bob labelled the first two: f s against the judge's f f, where κ is 0.
    """
    labels = [
        {"ann": "first", "bob": "first"},
        {"ann": "second", "bob": "second"},
        {"ann": "second"},
        {"ann": "second"},
    ]
    sides = [one["ann"] for one in labels]
    pairs = [
        pair(n, LONG, SHORT, side=side, labels=one)
        for n, (side, one) in enumerate(zip(sides, labels, strict=True))
    ]
    right = (0.9, 0.1, 0.9, 0.9)  # the second is judged wrongly: its better answer is "second"
    verdicts = [verdict(one, p, p) for one, p in zip(pairs, right, strict=True)]
    found = judge_figures(known(*pairs), verdicts, has_orders=True)["agreement"]
    assert found["cohen_kappa"] == pytest.approx(0.5)
    assert found["share_agreed"] == 0.75
    assert found["judge_and"]["ann"]["cohen_kappa"] == pytest.approx(0.5)
    assert found["judge_and"]["bob"] == {"n": 2, "share_agreed": 0.5, "cohen_kappa": 0.0}
    assert -1 < found["fleiss_with_judge"] < 1


async def test_judgebench_figures_come_from_both_orders_of_the_file() -> None:
    """The judge of length errs on the second pair, which the file shows as B>A."""
    data = known(
        pair(0, LONG, SHORT, subset="livebench-math"),
        pair(1, SHORT, LONG, subset="livecodebench", is_second=True),
        format="judgebench",
    )
    found = await figures(longer_wins(0.9), data)
    assert found["judgebench"]["overall"]["score"] == 50.0
    assert found["judgebench"]["math"]["score"] == 100.0
    assert found["judgebench"]["coding"]["incorrect"] == 1
    assert found["subsets"]["livecodebench"]["accuracy"]["rate"] == 0.0


async def test_rewardbench_2_needs_the_right_answer_above_all_wrong_ones() -> None:
    """Length decides: above all three of the first record, above two of three of the second."""
    data = known(
        *(pair(n, LONG, SHORT + str(n), group="x", subset="Focus") for n in range(3)),
        *(
            pair(n, SHORT + "+" * n, LONG if n == 5 else "No.", group="y", subset="Math")
            for n in (3, 4, 5)
        ),
        format="rewardbench2",
    )
    found = (await figures(longer_wins(0.9), data))["rewardbench2"]
    assert found["score"] == 0.5
    assert {name: one["score"] for name, one in found["subsets"].items()} == {
        "Focus": 1.0,
        "Math": 0.0,
    }


class Reward:
    """Scores by a table; an answer that is not in it cannot be read."""

    name, digest = "table", None

    def __init__(self, **scores: float) -> None:
        self._scores = scores
        self.asked: list[str] = []

    async def score(self, answers: Sequence[Answered]) -> list[float]:
        for number, (_, text) in enumerate(answers):
            if text not in self._scores:
                raise InputError(f"item {number} is too long")
        self.asked += [text for _, text in answers]
        return [self._scores[text] for _, text in answers]

    async def aclose(self) -> None:
        return None


async def test_a_reward_model_is_told_by_the_same_report_without_orders() -> None:
    """2 over 0 is σ(2); 1 under 3 is σ(-2); the third cannot be read. Each answer is asked once."""
    reward = Reward(good=2.0, bad=0.0, one=1.0, three=3.0)
    data = known(pair(0, "good", "bad"), pair(1, "one", "three"), pair(2, "good", "unread"))
    found = await evaluate_reward(reward, "table", data)
    told = judge_figures(data, found.verdicts, has_orders=False)
    assert sorted(reward.asked) == ["bad", "good", "one", "three"]
    assert [one.p_better for one in found.verdicts] == [
        pytest.approx(sigmoid(2.0)),
        pytest.approx(sigmoid(-2.0)),
        None,
    ]
    assert told["accuracy"]["rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert told["no_verdict"] == {"not-scored": 1}
    assert not {"position_bias", "inconsistent", "accuracy_first_order"} & set(told)
    assert found.judge.model == "table"


async def test_rewardbench_2_with_scores_takes_its_published_ties() -> None:
    """One subset of ties with its twin, and one best of three that ties for the first place."""
    reward = Reward(r1=5.0, r2=4.0, w1=1.0, twin=4.0, low=2.0, top=3.0, same=3.0)
    data = known(
        pair(0, "r1", "w1", group="tied:1", subset="Ties"),
        pair(1, "r2", "w1", group="tied:1", subset="Ties"),
        pair(2, "twin", "low", group="ref:1", subset="Ties"),
        pair(3, "top", "same", group="9", subset="Math"),
        pair(4, "top", "low", group="9", subset="Math"),
        format="rewardbench2",
    )
    found = await evaluate_reward(reward, "table", data)
    told = judge_figures(data, found.verdicts, has_orders=False)["rewardbench2"]
    assert told["subsets"]["Math"]["score"] == 0.5
    assert told["subsets"]["Ties"]["tied_accuracy"] == 1.0
    assert told["subsets"]["Ties"]["score"] == pytest.approx(1.0 + 0.01 * 0.7615942, abs=1e-6)


async def test_a_reward_that_is_no_number_ends_the_evaluation(tmp_path) -> None:
    class Broken(Reward):
        async def score(self, answers: Sequence[Answered]) -> list[float]:
            raise EngineError("the reward of item 0 is nan")

    with pytest.raises(EngineError, match="item 0 is nan"):
        await evaluate_reward(Broken(), "x", known(pair(0, "a", "b")))


def test_a_reward_model_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(Exception, match="no policy 'reward-1'"):
        open_reward("reward-1", tmp_path)


def test_a_principle_that_cannot_compare_is_refused_before_any_question() -> None:
    check_principles(TASTE, ["kind"])
    with pytest.raises(ConfigError, match="no principle 'kin' that compares; did you mean 'kind'"):
        check_principles(TASTE, ["kin"])
    mute = constitution({"id": "mute", "critique": "Find.", "revision": "Mend."})
    with pytest.raises(ConfigError, match="no principle with a 'compare'"):
        check_principles(mute, [])


def test_answers_of_one_length_say_nothing_of_length() -> None:
    assert length_figures([verdict(pair(0, "same", "long"), 0.9, 0.9)]) == {}
