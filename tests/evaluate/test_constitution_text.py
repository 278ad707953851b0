"""Diffs in words."""

from cai.constitution.diff import compare
from cai.constitution.schema import Case, Principle
from cai.evaluate.constitution_text import changelog, diff_dict, diff_lines
from tests.constitution.helpers import comparing, of

CASE = Case(prompt="p", better="b", worse="w")
OLD = of(Principle(id="a", compare="Which is kind?", weight=2), comparing("b"))
NEW = of(
    Principle(id="a", compare="Which is kinder?", rationale="Asked for in May.", cases=(CASE,)),
    comparing("c"),
)


def test_a_terminal_gets_signs_and_marked_words():
    assert list(diff_lines(compare(OLD, NEW))) == [
        "kind@draft -> kind@draft",
        "- b: removed",
        "~ a: reworded, weight 2 to 1, 1 case added, another rationale",
        "    compare: Which is [-kind-]{+kinder+}?",
        "    weight: 2 -> 1",
        "    cases: 1 case added",
        "    rationale: none -> Asked for in May.",
        "+ c: added, weight 1, 0 cases",
    ]


def test_what_means_the_same_is_said_to():
    assert list(diff_lines(compare(OLD, OLD)))[1:] == ["they mean the same"]


def test_json_has_the_words_of_a_changed_text():
    (removed, changed, added) = diff_dict(compare(OLD, NEW))["principles"]
    assert changed["changes"][0]["words"] == [
        *(["same", "Which is "], ["gone", "kind"], ["new", "kinder"], ["same", "?"])
    ]
    assert "words" not in changed["changes"][1]
    assert (removed["kind"], added["kind"]) == ("removed", "added")


def test_a_changelog_has_the_newest_first_and_the_reasons():
    first = OLD.model_copy(update={"version": 1})
    second = NEW.model_copy(update={"version": 2})
    assert changelog("kind", [compare(first, second)], first.ref).splitlines() == [
        *("# Changes of kind", "", "Made from the releases; edits here are lost.", ""),
        *("## kind@2: t", "", "- `b`: removed."),
        "- `a`: reworded, weight 2 to 1, 1 case added, another rationale. Asked for in May.",
        "  - compare: Which is ~~kind~~ **kinder**?",
        *("- `c`: added, weight 1, 0 cases.", "", "## kind@1", "", "- The first release."),
    ]
