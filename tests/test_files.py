"""Digests of canonical JSON, atomic replacement, and JSONL with a torn last line."""

import json
import os
import stat

import pytest

from cai import files
from cai.errors import DataError
from cai.files import (
    canonical_json,
    digest_bytes,
    digest_file,
    digest_json,
    drop_torn_line,
    read_json,
    read_jsonl,
    replace_json,
    replace_text,
)

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_equal_values_have_equal_json_whatever_the_order_of_keys():
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 1.5})


def test_nan_has_no_canonical_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_digests_name_their_algorithm_and_match_known_ones(tmp_path):
    """SHA-256 of nothing, and of `{}`, as sha256sum prints them."""
    assert digest_bytes(b"") == EMPTY
    assert digest_json({}) == (
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    (tmp_path / "empty").touch()
    assert digest_file(tmp_path / "empty") == EMPTY


def test_a_lone_surrogate_has_a_digest():
    assert digest_json("\ud800").startswith("sha256:")


def test_replacing_makes_folders_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "a" / "b.txt"
    replace_text(path, "one")
    replace_text(path, "two\n")
    assert path.read_text() == "two\n"
    assert os.listdir(path.parent) == ["b.txt"]


def test_a_failed_replacement_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    replace_text(path, "old")

    def fail(_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            replace_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_is_written_for_people_and_read_back(tmp_path):
    path = tmp_path / "a.json"
    replace_json(path, {"text": "é", "n": 1})
    assert path.read_text() == '{\n  "text": "é",\n  "n": 1\n}\n'
    assert read_json(path) == {"text": "é", "n": 1}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"nope"])
def test_what_is_not_json_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: not valid JSON"):
        read_json(path)


def test_a_missing_json_file_is_refused_and_a_missing_jsonl_file_is_empty(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")
    assert list(read_jsonl(tmp_path / "none.jsonl")) == []


def test_a_torn_last_line_is_left_out_and_can_be_cut_off(tmp_path):
    """Two whole lines of 8 bytes, then 5 bytes of a third."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n{"n":')
    assert list(read_jsonl(path)) == [{"n": 1}, {"n": 2}]
    assert drop_torn_line(path) == 5
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n'
    assert drop_torn_line(path) == 0


def test_a_last_line_without_its_newline_is_torn_even_if_it_parses(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    assert list(read_jsonl(path)) == [{"n": 1}]


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 200_000])
def test_a_long_torn_line_is_cut_off_whole(tmp_path, size):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n" + b"x" * size)
    assert drop_torn_line(path) == size
    assert path.read_bytes() == b"{}\n"


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 70_000)
    assert drop_torn_line(path) == 70_000
    assert path.read_bytes() == b""
    assert drop_torn_line(tmp_path / "none.jsonl") == 0


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n{oops}\n{}\n")
    rows = read_jsonl(path)
    assert next(rows) == {}
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not valid JSON"):
        next(rows)


def test_a_replaced_file_is_readable_by_its_group_as_the_umask_says(tmp_path):
    path = tmp_path / "a.txt"
    replace_text(path, json.dumps({}))
    other = tmp_path / "b.txt"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)
