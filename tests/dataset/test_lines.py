"""Lines of prompt files: bounded, numbered, and whole."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from cai.dataset.lines import MAX_LINE_BYTES, BadLine, Line, iter_lines
from cai.errors import PromptError


def test_blank_lines_are_left_out_but_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\n\n   \r\nfour\r\nlast without end")
    assert list(iter_lines(file)) == [
        Line(1, b"one"),
        Line(4, b"four"),
        Line(5, b"last without end"),
    ]


def test_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\n")
    assert list(iter_lines(file)) == [Line(1, b"one")]


def test_line_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * MAX_LINE_BYTES + b"\n" + b"y" * (MAX_LINE_BYTES + 1) + b"\nz\n")
    sizes = [len(line.data) if isinstance(line, Line) else line.reason for line in iter_lines(file)]
    assert sizes == [MAX_LINE_BYTES, "row-too-large", 1]


@pytest.mark.parametrize("name", ["big.jsonl", "big.jsonl.gz"])
def test_forty_megabytes_in_one_row_are_passed_over_in_little_memory(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    with gzip.open(file, "wb", 1) if name.endswith(".gz") else file.open("wb") as out:
        out.write(b"first\n")
        for _ in range(40):
            out.write(b"x" * 1_000_000)
        out.write(b"\nlast\n")
    tracemalloc.start()
    lines = list(iter_lines(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines[0] == Line(1, b"first")
    assert lines[2] == Line(3, b"last")
    assert isinstance(lines[1], BadLine)
    assert lines[1].detail == "40,000,000 bytes in one line; the limit is 1,048,576"
    assert peak < 8_000_000, peak


def test_gzip_that_breaks_off_gives_whole_lines_then_says_so(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"line {i} {hash(i)}\n" for i in range(5000)).encode())
    file = tmp_path / "cut.txt.gz"
    file.write_bytes(whole[: len(whole) // 2])
    lines = list(iter_lines(file))
    assert len(lines) > 10
    assert isinstance(lines[-1], BadLine)
    assert lines[-1].reason == "broken-gzip"
    assert lines[-1].number == len(lines)
    assert f"after line {len(lines) - 1}" in lines[-1].detail


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("plain.jsonl.gz", b"not gzip at all\n", "not a readable gzip"),
        ("missing.jsonl", None, "no such file"),
        ("folder.jsonl", ..., "is a folder"),
    ],
)
def test_unusable_file_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    file = tmp_path / name
    if content is ...:
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(PromptError, match=told) as caught:
        list(iter_lines(file))
    assert str(file) in str(caught.value)
