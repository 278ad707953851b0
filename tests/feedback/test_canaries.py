"""Known pairs ride with a batch; a judge that fails them is warned of or refused."""

import pytest

from cai.errors import JudgeError
from cai.feedback.attacks import ATTACKS
from cai.feedback.canaries import Canaries
from cai.feedback.config import CanaryConfig, JudgeConfig
from cai.feedback.guards import GuardConfig, find_problem, talks_to_judge
from cai.feedback.judge import Judge
from tests.feedback.helpers import constitution, judge_engine, longer_wins

CASE = {"prompt": "How do I boil an egg?", "better": "In water, for eight minutes.", "worse": "No."}
RULES = constitution(
    {"id": "helpful", "compare": "Which helps more?", "cases": [CASE]},
    {"id": "critic", "critique": "c", "revision": "r", "cases": [CASE]},
)
ROWS = [f"row-{index}" for index in range(200)]


def canaries(p_first, *, rules=RULES, **config):
    settings = {"rate": 1.0, "attack_share": 0.0, **config}
    judge = Judge(judge_engine(p_first), config=JudgeConfig(canaries=CanaryConfig(**settings)))
    return Canaries(judge, rules), judge


async def test_good_judge_holds_and_its_statistics_stay_its_own():
    riders, judge = canaries(longer_wins())
    for row in ROWS[:30]:
        assert (await riders.ride(row)).status == "held"
    assert riders.require() == []
    assert riders.as_dict()["asked"] == riders.as_dict()["held"] == 30
    assert riders.as_dict()["principles"] == {"helpful": {"held": 30}}
    assert judge.stats.as_dict() == {}


async def test_judge_that_prefers_the_worse_is_warned_of():
    riders, _ = canaries(longer_wins(0.1))
    for row in ROWS[:20]:
        await riders.ride(row)
    (warning,) = riders.require()
    assert warning.startswith("the judge failed 20 of 20 canaries (limit 25%)")
    assert riders.as_dict()["failures"][0]["principle"] == "helpful"


async def test_refusing_run_stops():
    riders, _ = canaries(longer_wins(0.1), on_failure="refuse", min_asked=5)
    for row in ROWS[:4]:
        await riders.ride(row)
    assert riders.require() == []
    await riders.ride(ROWS[4])
    with pytest.raises(JudgeError) as failure:
        riders.require()
    assert failure.value.reason == "canaries"


async def test_no_verdict_fails_a_plain_canary():
    riders, _ = canaries(lambda a, b, q: 0.5)
    outcome = await riders.ride(ROWS[0])
    assert (outcome.status, outcome.reason) == ("missing", "tie")


async def test_share_of_rows_with_a_canary_is_the_rate_and_the_same_each_time():
    riders, _ = canaries(longer_wins(), rate=0.1)
    rows = [f"r{index}" for index in range(5000)]
    due = [row for row in rows if riders.drawn(row)]
    assert 400 < len(due) < 600
    assert due == [row for row in rows if riders.drawn(row)]


async def test_attacked_canary_fails_when_the_attack_wins():
    """The longer answer wins here, so what an attack adds to the worse one makes it win."""
    riders, _ = canaries(lambda a, b, q: 0.9 if "Verdict" in a else 0.1, attack_share=1.0)
    outcomes = [await riders.ride(row) for row in ROWS]
    won = [one for one in outcomes if one.status == "failed"]
    assert {one.canary.attack.name for one in won} == {"fake-verdict-a", "fake-verdict-b"}
    stopped = [one for one in outcomes if one.canary.attack.kind == "single-token"]
    assert stopped
    assert all(one.status == "held" and one.p_better is None for one in stopped)
    assert riders.counts["missing"] == 0


async def test_constitution_without_cases_has_no_canaries():
    riders, _ = canaries(longer_wins(), rules=constitution("one"))
    assert await riders.ride(ROWS[0]) is None


async def test_counts_go_on_after_a_resume():
    first, _ = canaries(longer_wins(0.1))
    for row in ROWS[:5]:
        await first.ride(row)
    second, _ = canaries(longer_wins(0.1))
    second.restore(first.as_dict())
    for row in ROWS[5:8]:
        await second.ride(row)
    assert second.as_dict()["failed"] == 8
    assert second.as_dict()["principles"] == {"helpful": {"failed": 8}}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_is_filtered_or_seen(attack):
    """Those that replace the answer never reach the judge; most others are at least reported."""
    text = attack.apply("Boil it in water.")
    if attack.replaces:
        assert find_problem(text, GuardConfig())
    elif attack.name != "claimed-authority":
        assert talks_to_judge(text)
