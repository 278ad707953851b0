"""Word by word, what changed; nothing lost on either side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cai.evaluate.diff import word_diff

words = st.text(alphabet="ab .\n", max_size=40)


@given(words, words)
def test_pieces_put_together_are_the_two_texts(old: str, new: str) -> None:
    pieces = word_diff(old, new)
    assert "".join(piece.text for piece in pieces if piece.kind != "new") == old
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == new


def test_unchanged_text_is_one_piece() -> None:
    assert word_diff("all the same", "all the same") == [("same", "all the same")]


def test_whole_words_change_and_punctuation_stays() -> None:
    assert word_diff("Sure. Do it!", "Sure. Stop it!") == [
        ("same", "Sure. "),
        ("gone", "Do"),
        ("new", "Stop"),
        ("same", " it!"),
    ]


def test_very_long_texts_are_shown_as_replaced() -> None:
    assert [piece.kind for piece in word_diff("a " * 3000, "b " * 3000)] == ["gone", "new"]


def test_a_comma_in_common_does_not_cut_a_change_in_two() -> None:
    assert word_diff("Well, do it now please", "No, ask them now please") == [
        ("gone", "Well, do it"),
        ("new", "No, ask them"),
        ("same", " now please"),
    ]
