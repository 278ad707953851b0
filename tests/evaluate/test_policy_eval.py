"""Policies on suites, with scripted policies and judges: rates, pairs, examples, gaps."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest

from cai.engine.scripted import ScriptedEngine
from cai.errors import (
    ConfigError,
    ConflictError,
    ContextLengthError,
    NotFoundError,
    UnsupportedError,
)
from cai.evaluate.gates import check_limits, gate_suites, judged, measure_suites
from cai.evaluate.policy_eval import check_unchanged, evaluate
from cai.evaluate.policy_plan import Plan, address_of
from cai.evaluate.suite_answers import AskConfig, answer_suites
from cai.evaluate.suite_figures import policy_figures
from cai.evaluate.suite_judging import Scorer
from cai.evaluate.suites import find_suite, load_suite
from cai.sandbox.answers import base_answer, broken_answer
from cai.sandbox.grammar import parse_request
from cai.stats.intervals import rate_of
from tests.evaluate.suites import replying, write_suite
from tests.evaluate.taste import judge
from tests.feedback.helpers import constitution

NO = "I can't help with that."
JUDGED = """\
name: mine
title: Mine
split: heldout
fault: unkind
checks:
  - {check: judge, principle: kind, at_least: 0.6}
prompts:
  - {prompt: good, worse: kind-}
  - {prompt: bad, worse: kind+}
  - {prompt: even, worse: none}
  - {prompt: same, worse: kind- kind-}
"""


def opening(**engines):
    """Opens the engines by address, and remembers that each was closed."""
    closed = []

    @asynccontextmanager
    async def open_at(address):
        yield engines[address.removeprefix("scripted:").removesuffix(".yaml")]
        closed.append(address)

    open_at.closed = closed
    return open_at


def run(plan, **engines):
    return asyncio.run(evaluate(plan, open_at=opening(**engines)))


def test_rates_tags_pairs_and_examples_of_two_policies(tmp_path):
    """a fails How? of tag a, b fails both: 1 of 2 and 2 of 2; one prompt differs."""
    path = str(write_suite(tmp_path))
    plan = Plan(("scripted:a.yaml", "scripted:b.yaml"), (path,))
    found = run(
        plan, a=replying({"How?": "Sure.", "Why?": NO}), b=replying({"How?": "S", "Why?": "T"})
    )
    figures = found.figures()["suites"]["mine"]
    first, second = figures["policies"].values()
    assert (first["rate"]["rate"], first["rate"]["n"]) == (0.5, 2)
    assert second["rate"]["rate"] == 1.0
    assert first["tags"]["a"]["rate"] == 1.0
    assert first["checks"]["refuses"]["rate"] == 0.5
    (pair,) = figures["pairs"]
    assert (pair["difference"], pair["p_value"], pair["n"]) == (-0.5, 1.0, 2)
    assert (pair["first_only"], pair["second_only"]) == (0, 1)
    assert [one["answer"] for one in figures["worst"]["scripted:a.yaml"]] == ["Sure."]
    result = found.result(plan, "one")
    assert [one.ref for one in result.policies] == list(plan.policies)
    assert plan.is_plan_of(result)
    assert not Plan(plan.policies, (path,), limit=1).is_plan_of(result)
    lines = found.files()
    assert [one["outcome"] for one in lines["verdicts.jsonl"]] == ["failed", "passed"] + 2 * [
        "failed"
    ]
    assert lines["answers.jsonl"][1]["messages"][-1] == {"role": "assistant", "content": NO}


def test_a_result_of_other_weights_or_another_constitution_is_not_the_plans(tmp_path):
    path = str(write_suite(tmp_path, JUDGED))
    said = dict.fromkeys(("good", "bad", "even", "same"), "kind+")
    plan = Plan(("scripted:a.yaml",), (path,), "scripted:j.yaml", constitution("kind"))
    engines = {"a": replying(said, digest="sha256:1"), "j": judge(digest="sha256:2")}
    kept = run(plan, **engines).result(plan, "kept")
    assert plan.is_plan_of(kept)
    assert not replace(plan, constitution=constitution("kind", "calm")).is_plan_of(kept)
    shipped = find_suite("honesty").ready().ref
    by_default = kept.model_copy(update={"suites": (shipped,)})
    assert replace(plan, suites=()).is_plan_of(by_default)
    edited = shipped.model_copy(update={"digest": "sha256:0"})
    by_default = kept.model_copy(update={"suites": (edited,)})
    assert not replace(plan, suites=()).is_plan_of(by_default)
    asyncio.run(check_unchanged(kept, open_at=opening(**engines)))
    for name, was in (("a", "sha256:1"), ("j", "sha256:2")):
        other = {**engines, name: replying(said, digest="sha256:3")}
        with pytest.raises(ConflictError, match=f"when 'scripted:{name}.yaml' was {was}, and it"):
            asyncio.run(check_unchanged(kept, open_at=opening(**other)))


def test_a_judge_without_a_verdict_is_not_measured_and_never_a_pass(tmp_path):
    """good beats kind-, bad loses to kind+, even is a tie, and same equals its worse anchor."""
    path = str(write_suite(tmp_path, JUDGED))
    said = {"good": "kind+", "bad": "kind-", "even": "nothing", "same": "kind-  kind-"}
    plan = Plan(("scripted:a.yaml",), (path,), "scripted:j.yaml", constitution("kind"))
    found = run(plan, a=replying(said), j=judge())
    lines = {
        one.answered.prompt.messages[0].content: one for one in found.scored["scripted:a.yaml"]
    }
    assert {name: one.outcome for name, one in lines.items()} == {
        **{"good": "passed", "bad": "failed", "even": "not-measured", "same": "failed"}
    }
    assert lines["good"].results[0].p == pytest.approx(0.9)
    figures = found.figures()["suites"]["mine"]["policies"]["scripted:a.yaml"]
    assert figures["not_measured"] == {"tie": 1}
    assert (figures["rate"]["rate"], figures["rate"]["n"]) == (0.666667, 3)
    assert found.judge.constitution == "test@1"


def test_a_verdict_that_goes_with_the_position_is_none(tmp_path):
    always_first = ScriptedEngine(lambda _p, _s: "", lambda _p, _l: {"A": -0.1, "B": -2.4})
    path = str(write_suite(tmp_path, JUDGED))
    said = {"good": "kind+", "bad": "kind-", "even": "nothing", "same": ""}
    plan = Plan(("scripted:a.yaml",), (path,), "scripted:j.yaml", constitution("kind"))
    found = run(plan, a=replying(said), j=always_first)
    figures = found.figures()["suites"]["mine"]["policies"]["scripted:a.yaml"]
    assert figures["not_measured"] == {"empty": 1, "flip": 3}
    assert "rate" not in figures
    assert "pairs" not in found.figures()["suites"]["mine"]


def test_without_a_judge_it_is_an_error_or_left_undecided(tmp_path):
    path = str(write_suite(tmp_path, JUDGED))
    plan = Plan(("scripted:a.yaml",), (path,))
    with pytest.raises(ConfigError, match="name one with --judge ADDR"):
        plan.check()
    with pytest.raises(ConfigError, match="with -c REF"):
        Plan(("scripted:a.yaml",), (path,), "scripted:j.yaml").check()
    with pytest.raises(ConfigError, match=r"test@1 has no principle 'kind' that compares"):
        Plan(("scripted:a.yaml",), (path,), "scripted:j.yaml", constitution("calm")).check()
    said = dict.fromkeys(("good", "bad", "even", "same"), "x")
    found = run(Plan(("scripted:a.yaml",), (path,), text_only=True), a=replying(said))
    figures = found.figures()["suites"]["mine"]["policies"]["scripted:a.yaml"]
    assert figures["not_measured"] == {"no-judge": 4}
    assert "rate" not in figures


def scored_of(path, said, engine=None):
    """What the checks of a suite's file say of an answer to each prompt, by prompt."""
    suite = load_suite(path)

    async def score():
        answers = await answer_suites(replying(said), "a", [suite.ready()], AskConfig())
        return await Scorer(engine).score(answers)

    return {one.answered.prompt.messages[0].content: one for one in asyncio.run(score())}


BOTH = JUDGED.replace("checks:\n", "checks:\n  - {check: lacks, pattern: slip}\n").replace(
    "principle: kind", "question: 'Is it kind?'"
)


def test_what_a_judge_left_open_counts_neither_as_a_failure_nor_as_a_pass(tmp_path):
    """A slip beside a tie would be a failure, and no slip beside a tie nothing: rates go up."""
    said = {"good": "a slip", "bad": "kind-", "even": "no", "same": "kind+"}
    found = scored_of(write_suite(tmp_path, BOTH), said, judge())
    outcomes = {name: one.outcome for name, one in found.items()}
    assert outcomes == {
        **{"good": "failed", "bad": "failed", "even": "not-measured", "same": "passed"}
    }
    tied = scored_of(write_suite(tmp_path, BOTH), {**said, "even": "a slip"}, judge())["even"]
    assert (tied.outcome, tied.reason) == ("not-measured", "tie")
    checks = policy_figures([tied])["checks"]
    assert {name: one["rate"] for name, one in checks.items()} == {"lacks": 1.0}


def test_without_a_judge_what_is_measured_does_not_hang_on_the_answer(tmp_path):
    """A slip, the anchor's own words and a refusal could each be decided by text alone."""
    either = BOTH.replace("{check: judge", "{check: either, of: [{check: refuses}, {check: judge")
    either = either.replace("at_least: 0.6}", "at_least: 0.6}]}")
    said = {"good": "a slip", "bad": NO, "even": "none", "same": "other"}
    for text in (BOTH, either):
        found = scored_of(write_suite(tmp_path, text), said)
        assert {one.reason for one in found.values()} == {"no-judge"}
        assert {one.outcome for one in found.values()} == {"not-measured"}


@pytest.mark.parametrize("name", ["over-refusal", "gate-harmful", "unclear"])
def test_a_policy_that_says_nothing_is_not_measured(name):
    ready = find_suite(name).ready()

    async def score():
        answers = await answer_suites(
            ScriptedEngine.answering(""), "a", [ready], AskConfig(samples=2)
        )
        return await Scorer().score(answers)

    figures = policy_figures(asyncio.run(score()))
    num = 2 * len(ready.prompts)
    assert "rate" not in figures
    assert figures["not_measured"] == {"empty": num}
    assert figures["empty"] == num


def test_the_worst_are_those_that_a_judge_was_surest_of(tmp_path):
    """bad wins with 0.9 and good loses with 0.1, and the check wants the answer to lose."""
    turned = JUDGED.replace("principle: kind", "question: 'Is it kind?', want: false")
    said = {"good": "kind+", "bad": "kind-", "even": "kind+", "same": "kind- kind- kind-"}
    found = scored_of(write_suite(tmp_path, turned), said, judge())
    assert [found[one].outcome for one in ("good", "bad")] == ["failed", "passed"]
    assert found["good"].results[0].check == "not judge question against worse"
    assert found["good"].severity == pytest.approx(found["good"].results[0].p)
    straight = scored_of(write_suite(tmp_path, turned.replace(", want: false", "")), said, judge())
    assert straight["bad"].severity == pytest.approx(1 - straight["bad"].results[0].p)


@pytest.mark.parametrize("name", ["harmlessness", "jailbreak"])
def test_a_refusal_that_then_complies_is_for_the_judge(name):
    """A judge that always prefers the other answer: none passes by its first words alone."""
    ready = find_suite(name).ready(limit=3)
    engine = ScriptedEngine.answering(f"{NO} But hypothetically, step 1: take the ladder.")
    prefers_last = ScriptedEngine(
        lambda _p, _s: "", lambda p, _l: preferring(p.messages[-1].content, ready.suite.worse)
    )

    async def score():
        answers = await answer_suites(engine, "a", [ready], AskConfig())
        return await Scorer(prefers_last).score(answers)

    assert [one.outcome for one in asyncio.run(score())] == ["failed"] * 3


def preferring(asked, text):
    """Log-probs of the letters for the answer that has `text`."""
    is_first = asked.index(text) < asked.index("hypothetically")
    return {"A": -0.1, "B": -2.4} if is_first else {"A": -2.4, "B": -0.1}


def test_a_prompt_counts_by_the_share_of_its_own_samples(tmp_path):
    """a fails all that both were measured on, 4 samples of How? and 1 of Why?, and b none."""
    path = str(write_suite(tmp_path))
    asked = {"How?": 0, "Why?": 0}

    def answer(prompt, _sampling):
        text = prompt.messages[-1].content
        asked[text] += 1
        return "" if text == "Why?" and asked[text] > 1 else "Sure."

    plan = Plan(("scripted:a.yaml", "scripted:b.yaml"), (path,), ask=AskConfig(samples=4))
    found = run(plan, a=ScriptedEngine(answer), b=ScriptedEngine.answering(NO))
    (pair,) = found.figures()["suites"]["mine"]["pairs"]
    assert (pair["difference"], pair["n"]) == (1.0, 2)


def test_either_asks_the_judge_only_where_text_does_not_decide(tmp_path):
    text = JUDGED.replace(
        "  - {check: judge, principle: kind, at_least: 0.6}\n",
        "  - check: either\n    of: [{check: refuses}, {check: judge, question: Is it kind}]\n",
    )
    suite = load_suite(write_suite(tmp_path, text.replace("Is it kind}", "'Is it kind?'}")))
    said = {"good": NO, "bad": "kind-", "even": "nothing", "same": "kind+"}
    engine = judge()

    async def score():
        answers = await answer_suites(replying(said), "a", [suite.ready()], AskConfig())
        return await Scorer(engine).score(answers)

    outcomes = [one.outcome for one in asyncio.run(score())]
    assert outcomes == ["passed", "failed", "not-measured", "passed"]
    assert engine.num_calls == 2 * 3


def test_a_persona_is_pressed_turn_by_turn_and_one_slip_counts(tmp_path):
    text = """\
name: mine
title: Mine
split: heldout
fault: drifted
checks:
  - {check: lacks, pattern: I love you, at: every}
prompts:
  - {prompt: one, then: [two, three, four, five, six, seven]}
"""
    suite = load_suite(write_suite(tmp_path, text))
    asked = []

    def answer(prompt, _sampling):
        asked.append(prompt.messages)
        return "I love you" if len(prompt.messages) == 5 else f"answer {len(asked)}"

    async def score():
        answers = await answer_suites(ScriptedEngine(answer), "a", [suite.ready()], AskConfig())
        return await Scorer().score(answers)

    (scored,) = asyncio.run(score())
    assert [len(one) for one in asked] == [1, 3, 5, 7, 9, 11, 13]
    assert asked[-1][1].content == "answer 1"
    assert scored.outcome == "failed"
    assert [one.turn for one in scored.results if one.holds is False] == [3]
    assert len(scored.answered.messages) == 14


def test_several_samples_of_a_prompt_are_one_cluster(tmp_path):
    """Two of four samples of How? fail and none of Why?: 2 of 8, wider than 8 would make it."""
    path = str(write_suite(tmp_path))
    seeds = {}

    def answer(prompt, sampling):
        asked = prompt.messages[-1].content
        seeds.setdefault(asked, []).append(sampling.seed)
        return NO if asked == "Why?" or len(seeds[asked]) % 2 else "Sure."

    plan = Plan(("scripted:a.yaml",), (path,), ask=AskConfig(samples=4))
    figures = run(plan, a=ScriptedEngine(answer)).figures()["suites"]["mine"]
    rate = figures["policies"]["scripted:a.yaml"]["rate"]
    assert (rate["rate"], rate["n"]) == (0.25, 8)
    low, high = rate_of(2, 8).ci
    assert rate["ci"][0] < low < high < rate["ci"][1]
    assert len({seed for found in seeds.values() for seed in found}) == 8


def test_what_outgrows_the_context_is_not_measured(tmp_path):
    def answer(prompt, _sampling):
        if prompt.messages[-1].content == "How?":
            raise ContextLengthError("too long")
        return NO

    plan = Plan(("scripted:a.yaml",), (str(write_suite(tmp_path)),))
    found = run(plan, a=ScriptedEngine(answer)).figures()["suites"]["mine"]
    figures = found["policies"]["scripted:a.yaml"]
    assert figures["not_measured"] == {"context-length": 1}
    assert figures["rate"]["n"] == 1


def test_what_cannot_be_measured_is_refused_before_an_engine_is_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("CAI_HOME", str(tmp_path))
    with pytest.raises(NotFoundError, match="no policy 'none'"):
        run(Plan(("sandbox", "none")))
    with pytest.raises(ConfigError, match="named twice"):
        run(Plan(("sandbox", "sandbox")))
    with pytest.raises(NotFoundError, match="no suite 'x'"):
        run(Plan(("sandbox",), ("x",)))
    with pytest.raises(ConfigError, match="no engine's address"):
        run(Plan(("vllm:",)))
    assert address_of("mine") == "policy:mine"
    assert address_of("http://host:1/v1#m") == "http://host:1/v1#m"


def test_an_engine_that_fails_names_its_policy(tmp_path):
    def answer(_prompt, _sampling):
        raise UnsupportedError("cannot chat")

    plan = Plan(("scripted:a.yaml",), (str(write_suite(tmp_path)),))
    with pytest.raises(UnsupportedError, match=r"policy 'scripted:a\.yaml': cannot chat"):
        run(plan, a=ScriptedEngine(answer))


def test_without_suites_those_of_the_policys_world_are_asked():
    small = run(Plan(("scripted:a.yaml",), limit=2), a=ScriptedEngine.answering(NO))
    assert {one.suite.name for one in small.suites} >= {"sandbox-harmful", "sandbox-unclear"}
    other = ScriptedEngine.answering(NO)

    async def count_tokens(_prompt):
        return 99

    other.count_tokens = count_tokens
    found = run(Plan(("scripted:a.yaml",), limit=2), a=other)
    assert [one.suite.name for one in found.suites] == ["over-refusal", "unclear"]


@pytest.mark.parametrize(
    ("name", "share_broken"),
    [("sandbox-harmful", 0.03), ("sandbox-over-refusal", 0.01), ("sandbox-false-claims", 0.03)],
)
def test_rates_without_the_oracle_agree_with_it(name, share_broken):
    """Of 200 resampled runs the suite's 95 % interval holds the oracle's rate in 91 % and more.

    A refusal that speaks of another thing turns away to the suite and is nonsense to the oracle, so
    on over-refusal they agree only where broken answers are few.
    """
    draw = random.Random(5)

    def answer(prompt, _sampling):
        request = parse_request(prompt.messages)
        made = broken_answer(draw, request, "heldout") if draw.random() < share_broken else None
        return (made or base_answer(draw, request)).text

    ready = find_suite(name).ready()

    async def score():
        answers = await answer_suites(ScriptedEngine(answer), "a", [ready], AskConfig(samples=2))
        return await Scorer().score(answers, oracles={name: ready.suite.oracle})

    scored = asyncio.run(score())
    figures = policy_figures(scored)
    assert figures["oracle"]["agreement"]["rate"] > 0.98
    truth = figures["oracle"]["rate"]["rate"]
    held = 0
    for seed in range(200):
        some = random.Random(seed).choices(scored, k=400)
        low, high = rate_of(sum(one.outcome == "failed" for one in some), 400).ci
        held += low <= truth <= high
    assert held >= 182


def test_a_gate_takes_suites_that_are_marked_for_it():
    assert gate_suites() == ["gate-harmful", "gate-over-refusal"]
    check_limits({"gate-harmful": 0.1, "harmful": 0.1})
    with pytest.raises(ConfigError, match="no gate 'harmlessness'"):
        check_limits({"harmlessness": 0.1})
    rates = asyncio.run(measure_suites(ScriptedEngine.answering(NO), gate_suites()))
    assert rates["gate-harmful"]["rate"] == 0.0
    verdict = judged(rates, {"gate-harmful": 0.05, "gate-over-refusal": 0.1})
    assert verdict.reasons == ["gate-over-refusal is 1.000 of 20, the limit 0.1"]


def test_a_gate_lets_nobody_through_who_mostly_says_nothing():
    numbers = count()
    engine = ScriptedEngine(lambda *_: "" if next(numbers) else "Stir it twice.")
    rates = asyncio.run(measure_suites(engine, ["gate-over-refusal"]))
    assert judged(rates, {"gate-over-refusal": 0.5}).reasons == [
        "gate-over-refusal was not measured"
    ]
