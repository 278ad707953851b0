"""Files of prompts, row by row: ids, duplicates, skipped rows."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from cai.dataset.prompts import PromptRow, Skipped, iter_prompts, survey_prompts
from cai.errors import PromptError
from cai.files import digest_json

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(path: Path, *lines: object) -> Path:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    data = b"\n".join(encoded) + b"\n"
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def kept(path: Path) -> list[PromptRow]:
    return [row for row in iter_prompts(path) if isinstance(row, PromptRow)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_same_rows_from_plain_and_gzip(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, {"prompt": "Hi", "id": "x-1"}, {"prompt": "Ho", "id": 7})
    assert [(row.messages[0].content, row.line, row.source_id) for row in kept(path)] == [
        ("Hi", 1, "x-1"),
        ("Ho", 2, 7),
    ]


def test_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"first one", b"", b'{"prompt": "as it stands"}')
    assert [row.messages[0].content for row in kept(path)] == [
        "first one",
        '{"prompt": "as it stands"}',
    ]


def test_id_is_the_digest_of_the_messages(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "Hi"})
    assert kept(path)[0].input_id == digest_json([{"role": "user", "content": "Hi"}])


def test_same_prompt_in_another_shape_has_the_same_id(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", b"Hi")
    messages = write(
        tmp_path / "a.jsonl", {"messages": [{"content": "Hi", "role": "user"}], "id": 3}
    )
    assert kept(text)[0].input_id == kept(messages)[0].input_id


def test_duplicates_are_counted_and_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"Hi", b"Ho", b"Hi", b"Hi")
    rows = kept(path)
    assert [row.occurrence for row in rows] == [1, 1, 2, 3]
    assert len({row.input_id for row in rows}) == 4


def test_ids_are_the_same_at_every_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "Hi"}, b"{", {"prompt": "Hi"})
    assert list(iter_prompts(path)) == list(iter_prompts(path))


def test_unusable_rows_are_skipped_with_line_and_reason(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"prompt": "Hi"},
        b"{not json",
        b'{"prompt": "\xff\xfe"}',
        {"prompt": ""},
        {"question": "Hi"},
        b'{"prompt": "' + b"x" * (1 << 20) + b'"}',
        b"[" * 50_000,
        b'{"prompt": ' + b"9" * 5000 + b"}",
        b'{"prompt": "a\x00b"}',
        b'{"prompt": "' + rb"\u0000" + b'"}',
        {"prompt": "Ho"},
    )
    skipped = [row for row in iter_prompts(path) if isinstance(row, Skipped)]
    assert [(row.line, row.reason) for row in skipped] == [
        (2, "invalid-json"),
        (3, "invalid-utf8"),
        (4, "empty-prompt"),
        (5, "no-prompt"),
        (6, "row-too-large"),
        (7, "invalid-json"),
        (8, "invalid-json"),
        (9, "invalid-json"),
        (10, "nul-character"),
    ]
    assert [row.line for row in kept(path)] == [1, 11]
    assert len({row.input_id for row in iter_prompts(path)}) == 11


def test_details_of_skipped_rows_hold_no_text_of_the_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        b'{"prompt": "SENTINEL',
        {"prompt": [{"role": "SENTINEL", "content": "SENTINEL"}]},
        {"SENTINEL": "SENTINEL"},
        {"chosen": "SENTINEL", "rejected": "SENTINEL"},
    )
    rows = list(iter_prompts(path))
    assert len(rows) == 4
    assert "SENTINEL" not in repr(rows)


def test_limit_counts_skipped_rows_as_inputs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "Hi"}, b"{", {"prompt": "Ho"})
    assert [row.line for row in iter_prompts(path, limit=2)] == [1, 2]
    assert survey_prompts(path, limit=2).num_inputs == 2
    assert survey_prompts(path).num_inputs == 3


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("empty.jsonl", b"", "there is no prompt"),
        ("blank.txt", b"\n \n", "there is no prompt"),
        ("empty.jsonl.gz", b"", "there is no prompt"),
        ("text.jsonl.gz", b"hello", "not a readable gzip"),
        ("table.csv", b"prompt\nHi\n", r"\.jsonl, \.jsonl\.gz"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PromptError, match=told):
        survey_prompts(tmp_path / name)


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="is a folder"):
        survey_prompts(tmp_path)
    with pytest.raises(PromptError, match="no such file"):
        survey_prompts(tmp_path / "a.jsonl")


def test_hh_harmless_is_read_whole() -> None:
    """1,200 rows: 844 of them multi-turn, two with two turns of one role (lines 668 and 764)."""
    path = SHARED / "hh-harmless-test-1200.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    rows = list(iter_prompts(path))
    assert len(rows) == 1200
    assert all(isinstance(row, PromptRow) for row in rows)
    prompts = kept(path)
    assert [row.line for row in prompts if row.note] == [668, 764]
    assert Counter(row.messages[-1].role for row in prompts) == {"user": 1200}
    assert sum(len(row.messages) > 1 for row in prompts) == 844
    assert all(
        a.role != b.role
        for row in prompts
        for a, b in zip(row.messages, row.messages[1:], strict=False)
    )
