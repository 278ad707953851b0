"""A diff speaks of principles: added, removed, reworded, reweighted, moved."""

from cai.constitution.diff import compare
from cai.constitution.schema import Case, Constitution, Principle
from tests.constitution.helpers import TEXT, comparing, of, parse


def kinds(old, new):
    return [(one.id, one.kind) for one in compare(old, new).principles]


def test_comments_style_names_and_versions_are_no_changes():
    other = TEXT.replace("# the first", "").replace("name: kind", "name: other")
    other = other.replace("version: draft", "version: 7")
    assert compare(parse(), parse(other)).is_empty


def test_principles_come_and_go():
    a, b, c = (comparing(id) for id in "abc")
    assert kinds(of(a, b), of(b, c)) == [("a", "removed"), ("c", "added")]


def test_a_reworded_and_a_reweighted_principle_show_their_keys():
    changed = TEXT.replace("insults less", "offends less") + "    weight: 2\n"
    found = compare(parse(), parse(changed)).principles
    assert [(one.id, [change.key for change in one.changes]) for one in found] == [
        *(("no-insult", ["compare"]), ("be-brief", ["weight"]))
    ]
    assert [one.is_reworded for one in found] == [True, False]
    (weight,) = found[1].changes
    assert (weight.old, weight.new, weight.is_text) == (1.0, 2.0, False)


def test_the_fewest_moves_explain_a_new_order():
    """d goes to the front; that a, b and c now stand one further back is no news."""
    a, b, c, d = (comparing(id) for id in "abcd")
    (moved,) = compare(of(a, b, c, d), of(d, a, b, c)).principles
    assert (moved.id, moved.kind) == ("d", "moved")
    assert moved.as_dict()["changes"] == [{"key": "place", "old": 4, "new": 1}]


def test_the_constitutions_own_keys_are_told():
    old = of(comparing("a"))
    new = Constitution(
        name="kind", version=1, title="u", composition="mean", principles=(comparing("a"),)
    )
    assert [change.as_dict() for change in compare(old, new).changes] == [
        {"key": "title", "old": "t", "new": "u"},
        {"key": "composition", "old": "sample", "new": "mean"},
    ]


def test_cases_and_reasons_count():
    case = Case(prompt="p", better="b", worse="w")
    old, new = (Principle(id="a", compare="c", cases=cases) for cases in ((), (case,)))
    (one,) = compare(of(old), of(new)).principles
    assert [change.key for change in one.changes] == ["cases"]
    assert not one.is_reworded


def test_json_has_what_a_reader_needs():
    shown = compare(of(comparing("a")), of(comparing("b"))).as_dict()
    assert shown["from"]["ref"] == shown["to"]["ref"] == "kind@draft"
    assert shown["from"]["digest"] != shown["to"]["digest"]
    assert [one["principle"]["compare"] for one in shown["principles"]] == ["Which is better?"] * 2
