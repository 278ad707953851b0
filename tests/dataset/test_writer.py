"""What is on disk after a flush, a full disk and the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cai.dataset.records import Counts, encode_row
from cai.dataset.writer import RunWriter
from cai.errors import DataError
from tests.dataset.build import pair, read_lines, rejected, transcript


def test_lines_are_there_after_flush(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, Counts())
    writer.keep(transcript(1), [pair(1), pair(1, 1)])
    writer.reject(rejected(2))
    assert not list(tmp_path.iterdir())
    writer.flush()
    assert [row["id"] for row in read_lines(tmp_path / "rows.jsonl")] == ["p1.0", "p1.1"]
    assert [row["id"] for row in read_lines(tmp_path / "transcripts.jsonl")] == ["t1"]
    assert [row["reason"] for row in read_lines(tmp_path / "rejected.jsonl")] == ["context-length"]
    writer.close()


def test_counts_follow_what_was_handed_over(tmp_path: Path) -> None:
    counts = Counts()
    writer = RunWriter(tmp_path, counts)
    writer.keep(transcript(1, note="merged-turns"), [pair(1)])
    writer.keep(transcript(2, occurrence=2))
    writer.reject(rejected(3), transcript(3))
    assert (counts.kept, counts.num_rejected, counts.accounted, counts.pairs) == (2, 1, 3, 1)
    assert (counts.duplicates, counts.notes, counts.completion_tokens) == (
        1,
        {"merged-turns": 1},
        15,
    )
    writer.close()


def test_full_buffer_writes_itself(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, Counts())
    writer.keep(transcript(1, draft="x" * 300_000))
    assert (tmp_path / "transcripts.jsonl").stat().st_size > 300_000
    writer.close()


def test_done_comes_last_and_names_the_counts(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, Counts())
    writer.keep(transcript(1))
    writer.finish({"format": 1})
    written = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert [path.name for path in written] == ["transcripts.jsonl", "manifest.json", "DONE"]
    assert json.loads((tmp_path / "DONE").read_text())["kept"] == 1
    writer.close()


def test_full_disk_is_told_once_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    os.symlink("/dev/full", tmp_path / "transcripts.jsonl")
    writer = RunWriter(tmp_path, Counts())
    writer.keep(transcript(1))
    with pytest.raises(DataError, match=r"transcripts.jsonl: cannot be written: No space left"):
        writer.flush()
    writer.reject(rejected(2))
    writer.close()
    assert not (tmp_path / "rejected.jsonl").exists()


def test_half_written_batch_is_taken_back(tmp_path: Path) -> None:
    """A file-size limit stops a write in its middle, as a full disk does: 1,000 bytes allowed."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from cai.dataset.records import Counts
from cai.dataset.writer import RunWriter
from cai.errors import DataError
from tests.dataset.build import transcript
writer = RunWriter(Path({str(tmp_path)!r}), Counts())
writer.keep(transcript(1)); writer.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
writer.keep(transcript(2, draft="x" * 5000))
try:
    writer.flush()
except DataError as exc:
    print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "cannot be written: File too large" in done.stdout
    assert [row["id"] for row in read_lines(tmp_path / "transcripts.jsonl")] == ["t1"]


def test_text_that_is_no_unicode_is_escaped_not_lost() -> None:
    line = encode_row({"draft": "a\ud800b é"})
    assert json.loads(line.decode("ascii")) == {"draft": "a\ud800b é"}


def test_line_separators_inside_text_stay_on_one_line() -> None:
    text = "a\nb\r\x85\u2028c"
    line = encode_row({"draft": text})
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"draft": text}
