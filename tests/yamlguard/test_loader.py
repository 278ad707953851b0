"""The guarded subset: what is read, as what, and where it stands."""

import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.errors import CaiError, ConfigError, ConstitutionError
from cai.yamlguard import config_error, dump_yaml, load_yaml, load_yaml_file


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("~", None),
        ("Null", None),
        ("1.10", 1.1),
        ("12:30:45", "12:30:45"),
        ("190:20:30.15", "190:20:30.15"),
        ("0o17", 15),
        ("010", 10),
        ("08", 8),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("-7", -7),
        ("+7", 7),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        ("1e", "1e"),
        ("2026-11-24", "2026-11-24"),
        ("=", "="),
        ("'7'", "7"),
        ('"no"', "no"),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_unquoted_scalars_mean_what_yaml_1_2_says(written, value):
    read = load_yaml(f"key: {written}\n").data["key"]
    assert read == value
    assert type(read) is type(value)


def test_positions_are_those_of_an_editor():
    """Line and column from 1; a key and its value apart; list entries by index."""
    loaded = load_yaml("# head\nname: é x\nlist:\n  - a: 1\n    bb: 2\n  - [p, q]\n")
    assert loaded.position(("name",), key=True) == (2, 1)
    assert loaded.position(("name",)) == (2, 7)
    assert loaded.position(("list", 0)) == (4, 5)
    assert loaded.position(("list", 0, "bb"), key=True) == (5, 5)
    assert loaded.position(("list", 0, "bb")) == (5, 9)
    assert loaded.position(("list", 1, 1)) == (6, 9)


def test_the_place_of_what_is_absent_is_its_nearest_parent():
    loaded = load_yaml("list:\n  - a: 1\n")
    assert loaded.position(("list", 0, "missing")) == (2, 5)
    assert loaded.position(("other", "thing")) == (1, 1)


def test_carriage_returns_count_as_one_line_break_with_their_newline():
    assert load_yaml("a: 1\r\nb: 2\r\n").position(("b",), key=True) == (2, 1)


def test_block_scalars_and_quotes_keep_their_text():
    data = load_yaml("a: |\n  one\n   two\nb: >-\n  one\n  two\nc: 'it''s'\n").data
    assert data == {"a": "one\n two\n", "b": "one two", "c": "it's"}


def test_tabs_inside_block_text_are_text():
    assert load_yaml("a: |\n  one\n  \ttwo\n").data == {"a": "one\n\ttwo\n"}


@pytest.mark.parametrize("source", ["", "# only a comment\n", "---\n", "\n\n"])
def test_an_empty_document_is_none(source):
    assert load_yaml(source).data is None


def test_a_quoted_merge_key_is_an_ordinary_key():
    assert load_yaml("'<<': 1\n").data == {"<<": 1}


def test_twenty_levels_are_read_and_twenty_one_are_not():
    assert load_yaml("[" * 20 + "]" * 20).data is not None
    with pytest.raises(ConstitutionError, match="1:21: is nested deeper than 20"):
        load_yaml("[" * 21 + "]" * 21)


def test_ten_thousand_values_are_read_and_one_more_is_not():
    """The list itself is one value: 9,999 entries make 10,000."""
    assert len(load_yaml("[" + "1," * 9_999 + "]").data) == 9_999
    with pytest.raises(ConstitutionError, match="more than 10,000 values"):
        load_yaml("[" + "1," * 10_000 + "]")


def test_another_kind_of_file_gets_another_kind_of_error(tmp_path):
    path = tmp_path / "cai.yaml"
    path.write_text("port: 1\nport: 2\n")
    with pytest.raises(ConfigError, match=r"cai\.yaml:2:1: has 'port' twice, first in line 1"):
        load_yaml_file(path, error=config_error)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ConstitutionError, match=r"none\.yaml: cannot be read: No such file"):
        load_yaml_file(tmp_path / "none.yaml")
    with pytest.raises(ConstitutionError, match="not a regular file"):
        load_yaml_file(tmp_path)
    with pytest.raises(ConstitutionError, match="cannot be read"):
        load_yaml_file("a\0b.yaml")


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"a: " + b"x" * 20_000_000)
    tracemalloc.start()
    with pytest.raises(ConstitutionError, match=r"20,000 kB and at most 256 kB"):
        load_yaml_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def read_or_refuse(source) -> CaiError | None:
    try:
        load_yaml(source)
    except CaiError as exc:
        return exc
    return None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_input_is_data_or_a_refusal_with_its_place(source):
    refusal = read_or_refuse(source)
    assert refusal is None or refusal.line is not None


_marks = "ab0.~é@ \n\t\r:-?[]{},'\"|>&*!%#\\<"
_yaml_pieces = st.lists(st.sampled_from([*_marks, "- ", ": ", "  ", "\n---\n", "..."]), max_size=60)


@settings(max_examples=500, deadline=None)
@given(_yaml_pieces.map("".join))
def test_any_arrangement_of_yaml_marks_is_data_or_a_refusal(source):
    refusal = read_or_refuse(source)
    assert refusal is None or refusal.line is not None


_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"]), max_size=20
).filter(lambda text: "\ufeff" not in text) | st.sampled_from(
    [
        "no",
        "1.10",
        "12:30",
        "0o17",
        "1e5",
        "~",
        "",
        "true",
        "<<",
        "a: b",
        "- x",
        "# c",
        "two\nlines",
    ]
)
_plain_data = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False).filter(math.isfinite)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_texts, _plain_data, max_size=4))
def test_what_is_dumped_reads_back_as_it_was(data):
    assert load_yaml(dump_yaml(data)).data == data
