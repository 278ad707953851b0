"""An edit changes its own lines and no other: comments, blank lines and odd spacing stay."""

import copy
import difflib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.constitution.editing import edited, three_way
from cai.yamlguard import load_yaml

TEXT = """\
# why this file exists

name:    kind        # spaces on purpose
version: draft
title: "Be kind"
composition: sample   # | mean
principles:

  # the first one
  - id: no-insult     # own line
    critique: Point out
      any insult.
    revision: |
      Rewrite it.
    weight: 2         # twice

  # the second one
  - {id: be-brief, compare: 'Which is shorter?'}

  # the third one
  - id: be-warm
    compare: Which is warmer?
# the end
"""


def change(text, **changes):
    """The lines that an edit of the data takes away (-) and adds (+)."""
    loaded = load_yaml(text)
    data = copy.deepcopy(loaded.data)
    for path, value in changes.items():
        where = data
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        for part in parents:
            where = where[part]
        if value is None:
            del where[last]
        else:
            where[last] = value
    after = edited(loaded, data)
    assert load_yaml(after).data == data
    lines = difflib.ndiff(text.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_nothing_to_change_changes_nothing():
    assert change(TEXT) == []


def test_a_scalar_changes_in_its_line_and_its_comment_stays():
    assert change(TEXT, principles__0__weight=3) == [
        "-     weight: 2         # twice",
        "+     weight: 3         # twice",
    ]
    assert change(TEXT, title="Be: kinder") == ['- title: "Be kind"', '+ title: "Be: kinder"']


def test_a_key_is_added_and_taken_away():
    assert change(TEXT, principles__2__weight=2) == ["+     weight: 2"]
    assert change(TEXT, principles__0__weight=None) == ["-     weight: 2         # twice"]


def test_a_principle_goes_and_the_comment_of_the_next_one_stays():
    gone = change(TEXT, principles__0=None)
    assert [line for line in gone if "second" in line or "+" in line[0]] == []
    assert "-   - id: no-insult     # own line" in gone


def test_a_new_principle_stands_in_the_style_of_the_file():
    for offset in ("", "  "):
        text = f"principles:\n{offset}- id: a\n{offset}  compare: b\n"
        data = {"principles": [{"id": "a", "compare": "b"}, {"id": "c", "tags": ["x", "y"]}]}
        assert edited(load_yaml(text), data) == text + f"{offset}- id: c\n{offset}  tags: [x, y]\n"


def test_text_that_would_read_as_something_else_is_quoted():
    for value in ("1.10", "true", "null", "~", "0o17", "1e5", "", " x ", "a: b", "- a", "#a", "*x"):
        text = edited(load_yaml("title: t # why\n"), {"title": value})
        assert load_yaml(text).data == {"title": value}
        assert text.endswith(" # why\n")


def test_windows_line_breaks_stay():
    after = edited(load_yaml("a: 1\r\nb: 2 # two\r\n"), {"a": 3, "b": 2})
    assert after == "a: 3\r\nb: 2 # two\r\n"


def test_true_is_not_one():
    assert edited(load_yaml("a: 1\n"), {"a": True}) == "a: true\n"


def test_three_way_takes_a_changed_line_whole():
    assert three_way("a: 1\nb: 2\n", "a:  1\nb:  2\n", "a: 1\nb: 3\n") == "a:  1\nb: 3\n"


@pytest.mark.parametrize("path", sorted(Path("constitutions").glob("*/*.yaml")), ids=str)
def test_a_shipped_file_changes_by_one_line(path):
    text = path.read_text()
    assert len(change(text, title="Another title")) == 2
    assert len(change(text, principles__1__compare="Which is it?")) == 2


_TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)
_PRINCIPLES = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from("abcdef")},
        optional={"compare": _TEXTS, "weight": st.integers(0, 9), "tags": st.lists(_TEXTS)},
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: one["id"],
)


@settings(max_examples=60, deadline=None)
@given(_PRINCIPLES, _PRINCIPLES)
def test_any_edit_means_what_it_should_and_loses_no_heading_comment(before, after):
    text = edited(load_yaml("# top\nprinciples: [x]\n"), {"principles": before})
    again = edited(load_yaml(text), {"principles": after})
    assert load_yaml(again).data == {"principles": after}
    assert again.startswith("# top\n")
