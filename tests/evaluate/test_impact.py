"""An impact preview: what flips, whose doing it is, and how many questions it takes."""

import json

import pytest

from cai.engine.scripted import ScriptedEngine, last_text
from cai.errors import DataError, PromptError
from cai.evaluate.constitution_pages import impact_page
from cai.evaluate.impact import preview
from cai.evaluate.impact_pairs import JudgedPair, read_pairs, read_prompts, sample_pairs
from cai.evaluate.impact_report import impact_dict, impact_lines, revision_lines
from cai.types import Message
from tests.evaluate.taste import judge, made, principle
from tests.feedback.helpers import judge_engine

QUALITIES = ("kind", "short", "calm", "true", "warm")


def answer(number: int, signs: str) -> str:
    """An answer with a mark for each quality, by the bits of a number: `signs` are for 0 and 1."""
    return " ".join(f"{word}{signs[number >> at & 1]}" for at, word in enumerate(QUALITIES))


PAIRS = [
    JudgedPair(f"row-{n}", (Message("user", f"question {n}"),), answer(n, "-+"), answer(n, "+-"))
    for n in range(320)
]


def constitutions(composition="sample", **changed):
    """Five principles, and the same with one asked otherwise."""
    old = made(*map(principle, QUALITIES), composition=composition)
    new = made(
        *(principle(one, asks=changed.get(one)) for one in QUALITIES),
        version=2,
        composition=composition,
    )
    return old, new


async def test_under_sample_every_flip_is_the_changed_principles_and_half_is_reused():
    """A fifth of 320 rows draws 'calm', whose turned question flips each: about 64 of 320.

    Two runs take 2 * 320 * 2 questions; asked are 320 * 2, and 2 more for each row of 'calm'.
    """
    found = await preview(*constitutions(calm="not calm"), judge(), PAIRS)
    flips = len(found.flips)
    assert 40 < flips < 90
    assert found.flips_by_cause() == {"calm": flips}
    assert found.num_two_runs == 1280
    assert found.num_asked == 640 + 2 * flips
    assert found.num_asked / found.num_two_runs <= 0.6
    shown = impact_dict(found)
    assert shown["principles"][0]["share"] == 1.0
    assert len(shown["principles"][0]["examples"]) == 3
    low, high = shown["flips"]["ci"]
    assert low < flips / 320 < high
    assert shown["net"]["mean"] == pytest.approx(0.8 * flips / 320)


@pytest.mark.parametrize("composition", ["mean", "priority", "veto"])
async def test_under_other_compositions_taking_the_change_back_tells_whose_it_is(composition):
    old = made(
        *(principle(one, tags=("veto",) if one == "short" else ()) for one in QUALITIES),
        composition=composition,
    )
    changed = principle("kind", asks="not kind", weight=2)
    new = made(changed, *old.principles[1:], version=2, composition=composition)
    found = await preview(old, new, judge(), PAIRS)
    if composition == "veto":
        assert found.flips == ()  # the veto is always decided
    else:
        assert found.flips_by_cause() == {"kind": len(found.flips)}
        assert len(found.flips) > 50
    assert found.num_asked <= 0.6 * found.num_two_runs or composition == "priority"


async def test_two_changes_share_the_flips_that_need_either():
    found = await preview(
        *constitutions(composition="mean", kind="not kind", warm="not warm"), judge(), PAIRS
    )
    counts = found.flips_by_cause()
    assert set(counts) == {"kind", "warm"}
    assert sum(counts.values()) == pytest.approx(len(found.flips))


async def test_an_added_and_a_removed_principle_answer_for_their_rows():
    old = made(*map(principle, QUALITIES))
    loud = principle("loud", asks="not kind")
    new = made(*map(principle, QUALITIES[1:]), loud, version=2)
    found = await preview(old, new, judge(), PAIRS)
    assert set(found.flips_by_cause()) == {"kind", "loud"}
    assert sum(found.flips_by_cause().values()) == pytest.approx(len(found.flips))


async def test_another_composition_is_a_cause_of_its_own():
    old = made(*map(principle, QUALITIES), composition="priority")
    new = made(*map(principle, QUALITIES), composition="mean", version=2)
    found = await preview(old, new, judge(), PAIRS)
    assert set(found.flips_by_cause()) == {"composition"}
    assert impact_dict(found)["principles"][0]["kind"] == "composition"


async def test_the_same_constitution_flips_nothing_and_asks_once():
    old, _ = constitutions()
    found = await preview(old, old, judge(), PAIRS)
    assert found.flips == ()
    assert found.num_asked == found.num_two_runs / 2
    assert list(impact_lines(found))[-1].startswith("net shift away from the old choices +0.000")


async def test_pairs_without_a_verdict_are_counted_by_reason():
    shy = judge_engine(lambda *_: 0.9, mass=0.1)
    found = await preview(*constitutions(), shy, PAIRS[:5])
    assert found.no_verdict() == {"old": {"low-mass": 5}, "new": {"low-mass": 5}}
    shown = impact_dict(found)
    assert (shown["judged"], shown["flips"]) == (0, None)
    assert "no verdict under the old one: low-mass 5" in list(impact_lines(found))


async def test_agreement_with_people_is_told_where_the_pairs_know():
    known = [pair._replace(a="kind+", b="kind-", is_known=True) for pair in PAIRS[:30]]
    old, new = made(principle("kind")), made(principle("kind", asks="not kind"), version=2)
    rates = (await preview(old, new, judge(), known)).accuracy()
    assert (rates["old"].rate, rates["new"].rate, rates["old"].n) == (1.0, 0.0, 30)


def reviser():
    """Says what it was asked to be."""

    def answer(prompt, _sampling):
        text = last_text(prompt)
        return f"It is {text.splitlines()[0]}" if text.startswith(("Be", "What")) else "A <draft>."

    return ScriptedEngine(answer)


async def test_revisions_begin_with_one_draft_and_differ_by_the_constitution():
    old, new = (
        made(principle("kind", critique="What is wrong?", revision=f"Be {word}."), version=version)
        for version, word in ((1, "mild"), (2, "bold"))
    )
    engine = reviser()
    found = await preview(
        old, new, judge(), [], reviser=engine, revise_prompts=[("r", (Message("user", "Hi"),))]
    )
    (one,) = found.revisions
    assert one.old.draft == one.new.draft == "A <draft>."
    assert (one.old.answer, one.new.answer) == ("It is Be mild.", "It is Be bold.")
    assert list(revision_lines(found)) == [
        *("1 of 1 revised answers differ", "  Hi", "    It is Be [-mild-]{+bold+}.")
    ]
    page = impact_page(found)
    assert "A &lt;draft&gt;." in page
    assert "<del>mild</del><ins>bold</ins>" in page


async def test_the_page_tells_the_flips_and_escapes_what_was_said():
    marked = [pair._replace(a=pair.a + " <script>") for pair in PAIRS]
    page = impact_page(await preview(*constitutions(calm="not calm"), judge(), marked))
    assert "Flips by principle" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page


async def test_prompts_are_answered_twice_and_equal_answers_left_out(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("one\ntwo\n")
    said = iter(["a", "b", "c", "c"])
    engine = ScriptedEngine(lambda _p, _s: next(said))
    assert read_pairs(file) is None
    pairs = await sample_pairs(engine, read_prompts(file))
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b")]
    (tmp_path / "none.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(PromptError, match="no prompt in the file that can be used"):
        read_prompts(tmp_path / "none.jsonl")


def test_preferences_are_read_as_pairs(tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"p{i}", "chosen": "good", "rejected": "bad"} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = read_pairs(file, limit=2)
    assert [(pair.a, pair.b, pair.is_known) for pair in pairs] == [("good", "bad", True)] * 2
    assert len({pair.id for pair in pairs}) == 2
    turns = [{"role": role, "content": "x"} for role in ("assistant", "user", "assistant")]
    file.write_text(json.dumps({"prompt": "p", "chosen": turns, "rejected": turns[:1]}) + "\n")
    with pytest.raises(DataError, match="no pair of single answers"):
        read_pairs(file)
