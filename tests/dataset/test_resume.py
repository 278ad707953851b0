"""What an earlier session left: mended, counted, and refused under other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai.dataset.records import MANIFEST, REJECTED, ROWS, TRANSCRIPTS
from cai.dataset.resume import Stock, prepare_folder, take_stock
from cai.errors import ConfigError, DataError, NotFoundError
from cai.files import replace_json
from tests.dataset.build import (
    input_id,
    manifest,
    pair,
    read_lines,
    rejected,
    transcript,
    write_lines,
)


def stock(folder: Path, *, judged: bool = False) -> Stock:
    replace_json(folder / MANIFEST, manifest(seed=0))
    return take_stock(folder, {"seed": 0}, mode="auto", judged=judged)


def test_kept_and_rejected_inputs_are_done(tmp_path: Path) -> None:
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1), transcript(2)])
    write_lines(tmp_path / REJECTED, [rejected(3, "invalid-json")])
    found = stock(tmp_path)
    assert [found.has(input_id(number)) for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert (found.counts.kept, found.counts.rejected) == (2, {"invalid-json": 1})
    assert found.counts.completion_tokens == 10


def test_torn_last_line_is_cut_and_owed(tmp_path: Path) -> None:
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1)])
    with (tmp_path / TRANSCRIPTS).open("a") as file:
        file.write('{"format":1,"id":"t2","input_id":"' + input_id(2))
    found = stock(tmp_path)
    assert not found.has(input_id(2))
    assert [row["id"] for row in read_lines(tmp_path / TRANSCRIPTS)] == ["t1"]


def test_pairs_without_their_transcript_are_cut(tmp_path: Path) -> None:
    """A kill between the two writes: pairs come first, so the transcript vouches for all."""
    write_lines(tmp_path / ROWS, [pair(1), pair(1, 1), pair(2)])
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1)])
    found = stock(tmp_path, judged=True)
    assert [row["id"] for row in read_lines(tmp_path / ROWS)] == ["p1.0", "p1.1"]
    assert (found.counts.pairs, found.counts.kept, found.has(input_id(2))) == (2, 1, False)


def test_transcript_without_outcome_is_cut_in_a_judged_run(tmp_path: Path) -> None:
    """Input 2 was to be rejected by the judge: its transcript is there, its rejection is not."""
    write_lines(tmp_path / ROWS, [pair(1)])
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1), transcript(2), transcript(3)])
    write_lines(tmp_path / REJECTED, [rejected(3, "no-verdict", "judge")])
    found = stock(tmp_path, judged=True)
    assert [row["id"] for row in read_lines(tmp_path / TRANSCRIPTS)] == ["t1", "t3"]
    assert (found.counts.kept, found.counts.num_rejected, found.has(input_id(2))) == (1, 1, False)
    assert found.counts.completion_tokens == 10


def test_other_setting_is_named_with_both_values(tmp_path: Path) -> None:
    replace_json(tmp_path / MANIFEST, manifest(seed=0, revisions=1))
    with pytest.raises(ConfigError, match=r"revisions was 1 and is 2\..*--fresh") as caught:
        take_stock(tmp_path, {"seed": 0, "revisions": 2}, mode="auto", judged=False)
    assert "seed" not in str(caught.value)
    assert caught.value.param == "revisions"


def test_fresh_clears_the_run_and_nothing_else(tmp_path: Path) -> None:
    replace_json(tmp_path / MANIFEST, manifest(seed=0))
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1)])
    (tmp_path / "notes.txt").write_text("mine")
    prepare_folder(tmp_path, mode="fresh")
    found = take_stock(tmp_path, {"seed": 1}, mode="fresh", judged=False)
    assert found.manifest is None
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("mode", ["auto", "fresh"])
def test_folder_of_something_else_is_left_alone(tmp_path: Path, mode: str) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"no run \(manifest.json is missing\)"):
        prepare_folder(tmp_path, mode=mode)  # type: ignore[arg-type]
    assert (tmp_path / "thesis.tex").exists()


def test_folder_whose_first_session_died_at_once_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".manifest.json.123.tmp").write_text("{")
    prepare_folder(tmp_path, mode="auto")
    take_stock(tmp_path, {}, mode="auto", judged=False)
    assert not (tmp_path / ".manifest.json.123.tmp").exists()


def test_resume_needs_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run to resume"):
        prepare_folder(tmp_path / "run", mode="resume")
    assert not (tmp_path / "run").exists()


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(DataError, match="cannot be used as a run directory"):
        prepare_folder(tmp_path / "run", mode="auto")


def test_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / TRANSCRIPTS).write_text("{}}\n{}\n")
    with pytest.raises(DataError, match=r"transcripts.jsonl:1: not valid JSON"):
        stock(tmp_path)


def test_input_that_is_there_twice_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1), transcript(1)])
    with pytest.raises(DataError, match="is there twice"):
        stock(tmp_path)
