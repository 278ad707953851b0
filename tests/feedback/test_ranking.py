"""Orders from comparisons: schedules, cycles, failures, and the pairs that training gets."""

import math

import pytest

from cai.errors import EngineDeadError, InputError, JudgeError
from cai.feedback.config import JudgeConfig, RankingConfig
from cai.feedback.judge import Judge
from cai.feedback.ranking import choose_pairs, rank
from tests.feedback.helpers import ASKED, constitution, judge_engine

RULES = constitution("more", "less")
TEXTS = [f"answer number {index}" for index in range(9)]


def quality_judge(quality, **config):
    """P(i over j) is the logistic of the difference of their qualities."""

    def p_first(a, b, _question):
        return 1 / (1 + math.exp(quality[b] - quality[a]))

    return Judge(judge_engine(p_first), config=JudgeConfig(**config))


def by_index(values):
    return {TEXTS[index]: value for index, value in enumerate(values)}


async def ranked(judge, num_answers, **config):
    answers = TEXTS[:num_answers]
    return await rank(judge, ASKED, answers, RULES, row="r", config=RankingConfig(**config))


async def test_order_follows_the_judge():
    ranking = await ranked(quality_judge(by_index([0.0, 2.0, -1.0, 1.0])), 4)
    assert ranking.order == (1, 3, 0, 2)
    assert len(ranking.labels) == 6
    assert ranking.cycles == ()
    assert sum(ranking.scores) == pytest.approx(0.0, abs=1e-9)
    assert all(0.5 < c < 1 for c in ranking.confidence)


async def test_ratings_recover_the_differences_under_a_wide_prior():
    """Soft labels of a Bradley–Terry judge are fitted exactly: differences 2, 1 and 1."""
    ranking = await ranked(quality_judge(by_index([0.0, 2.0, -1.0, 1.0])), 4, prior_sd=100)
    assert ranking.scores[1] - ranking.scores[0] == pytest.approx(2.0, abs=0.01)
    assert ranking.scores[0] - ranking.scores[2] == pytest.approx(1.0, abs=0.01)


async def test_all_comparisons_of_a_row_are_under_one_principle():
    ranking = await ranked(quality_judge(by_index(range(4))), 4)
    assert len({label.decided_by for label in ranking.labels.values()}) == 1


async def test_nine_answers_cost_less_than_all_pairs_and_keep_the_order():
    quality = by_index([3.0, -2.0, 5.0, 0.0, 1.0, -4.0, 2.0, -1.0, 4.0])
    ranking = await ranked(quality_judge(quality), 9)
    assert len(ranking.labels) <= 9 + 2 * 4 + 1
    assert ranking.order[0] == 2
    assert ranking.order[-1] == 5
    assert (2, 5) in ranking.labels
    assert ranking.order == (2, 8, 0, 6, 4, 3, 7, 1, 5)


async def test_circle_is_reported_as_a_cycle():
    """0 beats 1, 1 beats 2, 2 beats 0; 3 loses to all."""
    wins = {(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)}

    def p_first(a, b, _question):
        return 0.8 if (TEXTS.index(a), TEXTS.index(b)) in wins else 0.2

    judge = Judge(judge_engine(p_first))
    ranking = await ranked(judge, 4)
    assert ranking.cycles == ((0, 1, 2),)
    assert ranking.order[-1] == 3
    choice = choose_pairs(ranking, "all")
    assert len(choice.pairs) == 5
    assert [reason for _, _, reason in choice.left_out] == ["against-order"]


def tie_on(*pairs):
    """A judge that has no verdict (a tie) on some pairs, and prefers the lower index elsewhere."""

    def p_first(a, b, _question):
        i, j = TEXTS.index(a), TEXTS.index(b)
        if (min(i, j), max(i, j)) in pairs:
            return 0.5
        return 0.9 if i < j else 0.1

    return Judge(judge_engine(p_first))


async def test_pairs_without_a_verdict_are_borne_while_the_rest_links_all():
    ranking = await ranked(tie_on((0, 2)), 3)
    assert ranking.order == (0, 1, 2)
    assert ranking.failed == {(0, 2): "tie"}
    choice = choose_pairs(ranking, "best-worst")
    assert choice.pairs == []
    assert choice.left_out == [(0, 2, "tie")]
    assert [pair[:2] for pair in choose_pairs(ranking, "adjacent").pairs] == [(0, 1), (1, 2)]


async def test_verdicts_that_do_not_link_all_answers_give_no_order():
    with pytest.raises(JudgeError, match=r"2 of 3 comparisons have no verdict \(tie\)") as failure:
        await ranked(tie_on((0, 2), (1, 2)), 3)
    assert failure.value.reason == "tie"
    assert failure.value.details["failed"] == {(0, 2): "tie", (1, 2): "tie"}
    assert set(failure.value.details["labels"]) == {(0, 1)}


async def test_chosen_pairs_show_the_better_answer_first():
    ranking = await ranked(quality_judge(by_index([0.0, 2.0, -1.0])), 3)
    (pair,) = choose_pairs(ranking, "best-worst").pairs
    assert (pair.chosen, pair.rejected) == (1, 2)
    assert pair.label.p_a == pytest.approx(1 / (1 + math.exp(-3)))
    assert len(choose_pairs(ranking, "all").pairs) == 3


async def test_margin_leaves_close_pairs_out():
    """P = 0.731 for a difference of 1, so its margin is 0.462; 0.762 for a difference of 2."""
    ranking = await ranked(quality_judge(by_index([0.0, 2.0, -1.0])), 3)
    choice = choose_pairs(ranking, "adjacent", min_margin=0.5)
    assert [pair[:2] for pair in choice.pairs] == [(1, 0)]
    assert choice.left_out == [(0, 2, "small-margin")]


async def test_unfit_answers_are_excluded_and_copies_share_a_place():
    answers = ["", "good answer", "bad", " good  answer ", ":"]
    judge = quality_judge({"good answer": 1.0, "bad": 0.0})
    ranking = await rank(judge, ASKED, answers, RULES, row="r")
    assert ranking.order == (1, 3, 2)
    assert ranking.excluded == {0: "empty", 4: "degenerate"}
    assert ranking.same_as == {3: 1}
    assert ranking.scores[0] is None
    assert ranking.scores[1] == ranking.scores[3]
    assert ranking.confidence[0] == 0.5
    assert [pair[:2] for pair in choose_pairs(ranking, "all").pairs] == [(1, 2)]


@pytest.mark.parametrize(
    ("answers", "reason"), [(["same", "same "], "identical"), (["", "fine"], "empty")]
)
async def test_fewer_than_two_fit_answers_give_no_order(answers, reason):
    with pytest.raises(JudgeError) as failure:
        await rank(quality_judge({}), ASKED, answers, RULES, row="r")
    assert failure.value.reason == reason


@pytest.mark.parametrize("num_answers", [0, 1, 10])
async def test_number_of_answers_is_bounded(num_answers):
    with pytest.raises(InputError, match="2 to 9"):
        await rank(quality_judge({}), ASKED, ["x"] * num_answers, RULES, row="r")


async def test_dead_engine_is_raised_as_itself():
    def die(*_):
        raise EngineDeadError("gone")

    with pytest.raises(EngineDeadError):
        await ranked(Judge(judge_engine(die)), 4)


async def test_json_form_has_every_pair_and_is_plain():
    ranking = await ranked(quality_judge(by_index([0.0, 2.0, -1.0])), 3)
    wire = ranking.as_dict()
    assert wire["order"] == [1, 0, 2]
    assert [(one["a"], one["b"]) for one in wire["pairs"]] == [(0, 1), (0, 2), (1, 2)]
    assert wire["pairs"][0]["label"]["order_ab"].keys() == {"A", "B"}
