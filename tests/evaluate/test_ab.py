"""Arms of live traffic: what is counted, what the test says of it, and what to do."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from cai.engine.scripted import ScriptedEngine
from cai.errors import DataError
from cai.evaluate.ab import (
    ABTest,
    Arms,
    block_ratio,
    compare_arms,
    compare_wins,
    once_per_user,
    recommend,
)
from cai.evaluate.ab_judge import judge_arms
from cai.policy.feedback import StoredFeedback
from cai.stats.intervals import Interval
from tests.evaluate.taste import judge, made, principle
from tests.evaluate.test_policy_eval import opening

ARMS = Arms("live", "new")


def said(number: int, arm: str, **fields: Any) -> StoredFeedback:
    values = {
        "messages": [{"role": "user", "content": f"Question {number}?"}],
        "response": f"Answer of {arm}.",
        "policy_id": "old" if arm == "live" else arm,
        **fields,
    }
    return StoredFeedback(seq=number, id=f"fb-{number}", at="2030-01-01", arm=arm, **values)


def thumbs(live: float, new: float, num: int, seed: int = 0) -> list[StoredFeedback]:
    """Thumbs of `num` users in each arm, in turn, with these shares of thumbs up."""
    rng = random.Random(seed)
    return [
        said(2 * number + place, arm, thumbs="up" if rng.random() < share else "down")
        for number in range(num)
        for place, (arm, share) in enumerate((("live", live), ("new", new)))
    ]


def test_a_clear_difference_is_found_and_the_interval_leaves_zero() -> None:
    found = compare_arms(thumbs(0.5, 0.8, 300), ARMS, "thumbs")
    assert found.n == 300
    assert 0 < found.ci.low < found.estimate < found.ci.high  # type: ignore[operator]
    assert found.p_value < 0.001
    assert found.per_arm["new"]["up"]["rate"] > found.per_arm["live"]["up"]["rate"]
    assert recommend(found).action == "promote"


def test_equal_arms_are_left_running() -> None:
    found = compare_arms(thumbs(0.7, 0.7, 300), ARMS, "thumbs")
    assert found.ci.low < 0 < found.ci.high
    assert recommend(found).action == "continue"


def test_ratings_are_compared_on_their_scale() -> None:
    """5 is 1.0 and 4 is 0.75: each block differs by 0.25; means are told from 1 to 5."""
    told = [
        said(2 * n + place, arm, rating=rating)
        for n in range(100)
        for place, (arm, rating) in enumerate((("live", 4), ("new", 5)))
    ]
    found = compare_arms(told, ARMS, "rating")
    assert found.estimate == pytest.approx(0.25)
    assert found.per_arm["live"] == {"n": 100, "mean_rating": 4.0, "ci": [4.0, 4.0]}
    assert recommend(found).arm == "new"


def test_a_user_counts_once_in_each_arm_by_the_first_word() -> None:
    told = [
        said(1, "new", thumbs="down", user_digest="u"),
        said(2, "new", thumbs="up", user_digest="u"),
        said(3, "live", thumbs="up", user_digest="u"),
        said(4, "new", thumbs="up"),
        said(5, "new", thumbs="up"),
        said(6, "other", thumbs="up"),
        said(7, "new", rating=3),
    ]
    counted, repeated = once_per_user(told, ARMS, "thumbs")
    assert [one.seq for one in counted] == [1, 3, 4, 5]
    assert repeated == 1


def test_blocks_follow_the_split() -> None:
    assert block_ratio({"new": 50.0}, ARMS) == (1, 1)
    assert block_ratio({"new": 80.0}, ARMS) == (1, 4)
    assert block_ratio({"new": 0.5}, ARMS) == (10, 1)
    assert block_ratio({"x": 30.0, "y": 10.0}, Arms("x", "y")) == (3, 1)
    assert block_ratio({}, ARMS) == (1, 1)


def test_uneven_arms_meet_in_blocks_of_their_ratio() -> None:
    told = [said(n, "new" if n % 4 == 3 else "live", thumbs="up") for n in range(40)]
    assert compare_arms(told, ARMS, "thumbs", ratio=(3, 1)).n == 10


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([], "no feedback from the arm 'live'"),
        ([said(1, "live", thumbs="up"), said(2, "nwe", thumbs="up")], "did you mean 'nwe'"),
        (
            [said(1, "live", thumbs="up"), said(2, "new", rating=3)],
            "nobody gave thumbs to the arm 'new' yet",
        ),
        (
            [
                said(1, "live", thumbs="up"),
                said(2, "live", thumbs="up", policy_id="older"),
                said(3, "new", thumbs="up"),
            ],
            r"answered by 2 policies \(old, older\).*--since",
        ),
    ],
)
def test_feedback_that_cannot_be_compared_is_refused(
    records: list[StoredFeedback], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        compare_arms(records, ARMS, "thumbs")


def test_two_values_alone_decide_nothing() -> None:
    told = [said(1, "live", thumbs="down"), said(2, "new", thumbs="up")]
    found = compare_arms(told, ARMS, "thumbs")
    assert found.n == 1
    assert found.ci == (-1.0, 1.0)
    assert recommend(found).action == "continue"


def test_arms_that_never_meet_in_a_block_have_no_estimate() -> None:
    told = [said(1, "live", thumbs="down"), said(2, "new", thumbs="up")]
    found = compare_arms(told, ARMS, "thumbs", ratio=(3, 1))
    assert found.estimate is None
    assert "estimate" not in found.as_dict()
    assert "no whole block" in recommend(found).why


def settled(low: float, high: float, arms: Arms = ARMS) -> ABTest:
    return ABTest("thumbs", arms, {}, (low + high) / 2, 0.0, Interval(low, high), 0.01, 0.05, 100)


@pytest.mark.parametrize(
    ("test", "options", "action", "arm"),
    [
        (settled(0.02, 0.1), {}, "promote", "new"),
        (settled(0.02, 0.1), {"before_live": "new"}, "rollback", "new"),
        (settled(-0.1, -0.02), {}, "drop", "new"),
        (settled(-0.1, -0.02, Arms("new", "live")), {}, "promote", "new"),
        (settled(0.02, 0.1, Arms("new", "live")), {}, "drop", "new"),
        (settled(0.02, 0.1, Arms("one", "two")), {}, "drop", "one"),
        (settled(-0.02, 0.01), {}, "continue", None),
        (settled(-0.02, 0.01), {"margin": 0.03}, "stop", None),
        (settled(-0.02, 0.04), {"margin": 0.03}, "continue", None),
    ],
)
def test_what_is_recommended(
    test: ABTest, options: dict[str, Any], action: str, arm: str | None
) -> None:
    found = recommend(test, **options)
    assert (found.action, found.arm) == (action, arm)


def test_a_judge_compares_recorded_answers_with_the_other_arms_own() -> None:
    """Live recorded kind-, new answers kind+ now; new recorded kind+, live answers kind-: 0.9."""
    told = [
        said(n, "new" if n % 2 else "live", response="kind+" if n % 2 else "kind-", rating=3)
        for n in range(40)
    ]
    engines = {
        "live": ScriptedEngine.answering(lambda _text: "Now kind-"),
        "new": ScriptedEngine.answering(lambda _text: "Now kind+"),
    }
    found = asyncio.run(
        judge_arms(
            told,
            ARMS,
            {"live": "live", "new": "new"},
            "judge",
            made(principle("kind")),
            open_at=opening(judge=judge(), **engines),
        )
    )
    assert found.values == pytest.approx((0.9,) * 40)
    assert engines["live"].num_calls == engines["new"].num_calls == 20
    test = compare_wins(found.values, ARMS)
    assert test.estimate == pytest.approx(0.9)
    assert test.ci.low > 0.5
    assert recommend(test) == ("promote", "new", recommend(test).why)
    assert test.per_arm["live"]["win_rate"]["rate"] == pytest.approx(0.1)


def test_a_later_look_only_adds_to_what_the_judge_said() -> None:
    """Answers hang on the seed alone: one asked anew with another would change its verdict."""
    told = [said(n, "live" if n % 2 else "new", response="Neither.", rating=3) for n in range(60)]
    seeded = ScriptedEngine(lambda _p, sampling: "kind+" if sampling.seed % 2 else "kind-")

    def look(records: list[StoredFeedback], limit: int) -> list[float]:
        found = asyncio.run(
            judge_arms(
                records,
                ARMS,
                {"live": "seeded", "new": "seeded"},
                "judge",
                made(principle("kind")),
                limit=limit,
                open_at=opening(judge=judge(), seeded=seeded),
            )
        )
        return list(found.values)

    first = look(told[:20], 40)
    assert len(first) == 20
    assert min(first) < 0.5 < max(first)
    assert look(told, 40)[:20] == first
    assert look(told, 40) == look(told[:50], 40)  # the oldest stay when there are more
    assert look(told, 60)[:40] == look(told, 40)


def test_a_judge_without_a_verdict_is_no_evidence() -> None:
    told = [said(n, "live" if n % 2 else "new", response="...", rating=3) for n in range(6)]
    mute = ScriptedEngine.answering(lambda _text: "...")
    found = asyncio.run(
        judge_arms(
            told,
            ARMS,
            {"live": "mute", "new": "mute"},
            "judge",
            made(principle("kind")),
            open_at=opening(judge=judge(), mute=mute),
        )
    )
    assert (found.values, found.no_verdict) == ((), 6)
    with pytest.raises(DataError, match="no verdict on the arms"):
        compare_wins(found.values, ARMS)
