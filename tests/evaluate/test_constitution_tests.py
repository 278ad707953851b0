"""A constitution's own tests: what holds, what fails, what contradicts, and with which judge."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest

from cai.constitution.schema import Case, Principle
from cai.errors import ConstitutionError
from cai.evaluate.constitution_results import ResultStore, junit, told_before
from cai.evaluate.constitution_tests import run_tests
from tests.evaluate.taste import judge, made, principle
from tests.feedback.helpers import judge_engine

KIND, SHORT = principle("kind"), principle("short")


async def test_every_case_holds_with_a_judge_that_understands():
    report = await run_tests(made(KIND, SHORT), judge())
    assert report.passed
    assert [one.principle for one in report.cases] == ["kind", "short"]
    assert [round(one.p_better, 6) for one in report.cases] == [0.9, 0.9]
    assert [round(one.p_better, 6) for one in report.whole] == [0.7, 0.7]  # (0.9 + 0.5) / 2
    assert report.num_questions == 8  # two principles, two cases, two orders


async def test_a_case_that_the_judge_gets_wrong_fails_with_its_figures():
    wrong = principle("kind", asks="not kind")
    report = await run_tests(made(wrong, SHORT), judge())
    (failed,) = [one for one in report.cases if not one.passed]
    assert (failed.principle, round(failed.p_ab, 6), round(failed.p_ba, 6)) == ("kind", 0.1, 0.1)
    assert not report.passed


async def test_a_verdict_that_flips_is_told_and_fails_only_when_strict():
    """0.95 when shown first, 0.35 when shown second: a label of 0.65."""
    biased = judge_engine(lambda a, _b, _q: 0.95 if a == "kind+" else 0.65)
    report = await run_tests(made(KIND), biased)
    (case,) = report.cases
    assert (case.passed, case.flips, round(case.p_better, 6)) == (True, True, 0.65)
    assert report.whole[0].p_better == 0.5  # nobody has an opinion
    strict = await run_tests(made(KIND), biased, strict=True)
    assert not strict.cases[0].passed
    assert not strict.whole[0].passed


@pytest.mark.parametrize(
    ("composition", "expected"),
    [("sample", 0.3), ("mean", 0.3), ("priority", 0.9), ("veto", 0.1)],
)
async def test_the_whole_goes_by_the_composition(composition, expected):
    """kind first, weight 1, says 0.9; loud, weight 3 and a veto, says 0.1: (0.9 + 3 * 0.1) / 4."""
    kind = principle("kind")
    loud = Principle(id="loud", compare="Is it not kind?", weight=3, tags=("veto",))
    report = await run_tests(made(kind, loud, composition=composition), judge())
    (whole,) = report.whole
    assert whole.p_better == pytest.approx(expected)
    assert whole.passed == (expected > 0.4)
    assert report.untested == ("loud",)


async def test_a_planted_contradiction_is_found_on_one_anothers_cases():
    case = Case(prompt="About unkind?", better="kind-", worse="kind+")
    planted = Principle(id="planted", compare="Is it not kind?", cases=(case,))
    report = await run_tests(made(KIND, SHORT, planted, composition="priority"), judge())
    (found,) = report.contradictions
    assert (found.first, found.second) == ("kind", "planted")
    assert found.first_on_second == pytest.approx(0.1)
    assert found.second_on_first == pytest.approx(0.1)
    assert not report.passed


async def test_one_that_only_dislikes_another_is_a_tension():
    case = Case(prompt="About calm?", better="calm+", worse="calm-")
    calm = Principle(id="calm", compare="Is it calm?", cases=(case,))
    other = Case(prompt="About kind?", better="kind+ calm-", worse="kind- calm+")
    kind = Principle(id="kind", compare="Is it kind?", cases=(other,), weight=5)
    report = await run_tests(made(calm, kind), judge())
    assert report.contradictions == ()
    assert [(one.principle, one.on) for one in report.tensions] == [("calm", "kind")]


async def test_no_verdict_is_a_failure_with_its_reason():
    shy = judge_engine(lambda _a, _b, _q: 0.9, mass=0.1)
    report = await run_tests(made(KIND), shy)
    assert "the letters hold 0.100 of the judge's probability" in report.cases[0].problem
    assert report.whole[0].problem == "no principle voted"
    assert not report.passed


async def test_tags_choose_the_cases_and_none_is_an_error():
    tagged = principle("kind", cases=(Case(prompt="a", better="b", worse="c", tags=("x",)),))
    report = await run_tests(made(tagged, SHORT), judge_engine(lambda *_: 0.6), tags=("x",))
    assert [one.principle for one in report.cases] == ["kind"]
    assert report.untested == ("short",)
    with pytest.raises(ConstitutionError, match="taste@1 has no case tagged y with a 'compare'"):
        await run_tests(made(tagged), judge(), tags=("y",))


async def test_progress_counts_every_principle_and_case():
    told = []
    await run_tests(made(KIND, SHORT), judge(), on_answer=lambda: told.append(1))
    assert len(told) == 4


async def test_results_are_kept_by_constitution_and_judge(tmp_path):
    store = ResultStore(tmp_path)
    good = await run_tests(made(KIND), judge(model="good", digest="sha256:aa"))
    assert store.before(good) is None
    path = store.save(good, at=datetime(2026, 1, 1, tzinfo=UTC))
    assert path.parent.name == good.digest.removeprefix("sha256:")
    assert path.name == "aa.json"
    bad = await run_tests(made(KIND), judge_engine(lambda a, _b, _q: 0.1 + 0.8 * (a == "kind-")))
    before = store.before(bad)
    assert before["judge"]["model"] == "good"
    assert told_before(before)["cases", bad.cases[0].key] is True
    store.save(bad, at=datetime(2026, 1, 2, tzinfo=UTC))
    assert [one["passed"] for one in store.of(good.digest)] == [False, True]
    assert store.before(good)["judge"]["model"] == "scripted"
    path.write_text("{")
    assert len(store.of(good.digest)) == 1


async def test_a_judge_without_a_digest_is_known_by_what_it_says_of_itself(tmp_path):
    report = await run_tests(made(KIND), judge(model="nameless"))
    assert report.judge.digest is None
    assert report.as_dict()["judge"]["digest"] == report.judge_digest
    assert report.judge_digest.startswith("sha256:")


async def test_junit_has_a_suite_per_principle_and_the_figures_of_failures():
    case = Case(prompt="About <b>?", better="kind-", worse="kind+")
    planted = Principle(id="planted", compare="Is it not kind?", cases=(case,))
    wrong = principle("calm", asks="not calm")
    root = ET.fromstring(junit(await run_tests(made(KIND, planted, wrong), judge())))
    suites = {one.get("name"): (one.get("tests"), one.get("failures")) for one in root}
    assert suites == {
        "taste@1.kind": ("1", "0"),
        "taste@1.planted": ("1", "0"),
        "taste@1.calm": ("1", "1"),
        "taste@1.whole": ("3", "1"),
        "taste@1.contradictions": ("1", "1"),
    }
    failures = [one.get("message") for one in root.iter("failure")]
    assert "P(better) 0.100; 0.100 shown first, 0.100 shown second" in failures
