"""Suite files: what is wrong has line and column; the shipped ones keep their promises."""

import re

import pytest

from cai.errors import ConfigError, NotFoundError
from cai.evaluate.suites import default_suites, find_suite, load_suite, suite_names
from tests.evaluate.suites import MINE, write_suite

KINDS = ("harmlessness", "over-refusal", "sycophancy", "jailbreak", "unclear", "honesty")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - check: refuses\n", "  - check: refuse\n", ":6:12: no check 'refuse'; did you mean"),
        ("  - check: refuses\n", "  - want: true\n", ":6:5: the check has no name"),
        ("  - check: refuses\n", "  - {check: matches, pattern: '('}\n", ":6:31: pattern '('"),
        (
            "  - check: refuses\n",
            "  - {check: judge, question: Q}\n",
            "with 'worse', which the prompt",
        ),
        ("  - check: refuses\n", "  - {check: judge}\n", "needs a 'principle' or a 'question'"),
        ("checks:\n  - check: refuses\n", "", "the prompt has no checks, and the suite has none"),
        ("prompts:\n  - prompt: How?\n    tags: [a]\n  - prompt: Why?\n", "", "has no prompts"),
        ("prompts:", "generate: {source: sandbox, kind: benign, n: 3}\nprompts:", "keep one"),
        ("    tags: [a]\n", "    tags: [a]\n    id: '002'\n", "the id '002' stands twice"),
        ("split: heldout", "split: held", ":3:8: split is 'held'"),
        ("fault: harmful", "faults: harmful", "unknown key 'faults'; did you mean 'fault'"),
        ("How?", "[{role: user, content: a}, {role: assistant, content: b}]", "end with the user"),
    ],
)
def test_a_bad_file_says_what_and_where(tmp_path, old, new, said):
    assert old in MINE
    path = write_suite(tmp_path, MINE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    assert said in caught.value.message
    assert re.search(r"mine\.yaml:\d+:\d+: ", caught.value.message)


def test_prompts_get_ids_tags_and_checks_and_a_digest(tmp_path):
    suite = find_suite(str(write_suite(tmp_path, MINE.replace("split", "tags: [all]\nsplit", 1))))
    ready = suite.ready()
    assert [(one.id, one.tags) for one in ready.prompts] == [
        ("001", ("all", "a")),
        ("002", ("all",)),
    ]
    assert all(one.checks == suite.checks for one in ready.prompts)
    other = suite.model_copy(update={"fault": "rude"})
    assert other.ready().digest != ready.digest


def test_the_digest_is_of_the_prompts_that_are_kept(tmp_path):
    suite = find_suite(str(write_suite(tmp_path)))
    ready, first = suite.ready(), suite.ready(limit=1)
    assert len(first.prompts) == 1
    assert first.digest != ready.digest == suite.ready(limit=2).digest
    more = write_suite(tmp_path, f"{MINE}  - prompt: When?\n")
    assert find_suite(str(more)).ready(limit=1).digest == first.digest
    drawn = find_suite("sandbox-harmful")
    assert drawn.ready(limit=5).digest != drawn.ready(limit=6).digest


def test_a_prompt_of_its_own_judge_needs_one(tmp_path):
    judged = "  - {prompt: When, worse: x, checks: [{check: judge, question: Which}]}\n"
    assert load_suite(write_suite(tmp_path, MINE + judged)).needs_judge
    assert not load_suite(write_suite(tmp_path)).needs_judge


def test_an_unknown_suite_names_the_closest():
    with pytest.raises(NotFoundError, match="did you mean 'harmlessness'"):
        find_suite("harmlesness")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_suite("./none.yaml")


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_is_whole(name):
    ready = find_suite(name).ready()
    is_long = min(len(one.then) for one in ready.prompts) > 0
    assert len(ready.prompts) >= (6 if is_long else 20)
    assert len({(one.messages, one.then) for one in ready.prompts}) >= len(ready.prompts) // 2
    assert ready.suite.about
    if name == "pressure":
        assert all(len(one.then) >= 5 for one in ready.prompts)
    if name.startswith("gate-"):
        assert ready.suite.used_for == ("gates",)
        assert not ready.suite.needs_judge


def test_the_defaults_fit_the_world_and_the_judge():
    small = default_suites(of_small_world=True, has_judge=False)
    assert all(name.startswith("sandbox-") for name in small)
    assert len(small) >= 6
    assert default_suites(of_small_world=False, has_judge=False) == ["over-refusal", "unclear"]
    judged = default_suites(of_small_world=False, has_judge=True)
    assert {*KINDS, "pressure"} <= set(judged)
    assert not any(name.startswith(("gate-", "sandbox-")) for name in judged)


def test_prompts_of_the_small_world_are_drawn_with_their_facts():
    ready = find_suite("sandbox-honesty").ready(limit=5)
    for one in ready.prompts:
        assert one.facts["truth"] != one.facts["claimed"]
        assert one.facts["claimed"] in one.messages[-1].content
    chained = find_suite("sandbox-pressure").ready(limit=2).prompts
    assert [len(one.then) for one in chained] == [5, 5]
