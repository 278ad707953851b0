"""A run as its files tell it, while it is written and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai.dataset.lock import RunLock
from cai.dataset.records import DONE, MANIFEST, REJECTED, ROWS, TRANSCRIPTS
from cai.dataset.status import read_status
from cai.errors import NotFoundError
from cai.files import replace_json
from tests.dataset.build import manifest, pair, rejected, transcript, write_lines


@pytest.fixture
def run(tmp_path: Path) -> Path:
    replace_json(tmp_path / MANIFEST, manifest(seed=0))
    write_lines(tmp_path / TRANSCRIPTS, [transcript(1), transcript(2)])
    write_lines(tmp_path / REJECTED, [rejected(3), rejected(4, "invalid-json", "read")])
    return tmp_path


def test_stopped_run_has_kept_rejected_and_owed(run: Path) -> None:
    status = read_status(run)
    assert (status.state, status.inputs, status.owed, status.pid) == ("stopped", 10, 6, None)
    shown = status.as_dict()
    assert shown["kept"] == 2
    assert shown["rejected"] == {"context-length": 1, "invalid-json": 1}
    assert shown["rows_per_s"] >= 0
    assert "pid" not in shown


def test_live_run_names_its_process_and_a_torn_line_is_not_counted(run: Path) -> None:
    with (run / TRANSCRIPTS).open("a") as file:
        file.write('{"format":1,')
    lock = RunLock.take(run)
    try:
        status = read_status(run)
    finally:
        lock.release()
    assert status.state == "running"
    assert status.pid
    assert status.counts.kept == 2


def test_done_run_says_done(run: Path) -> None:
    (run / DONE).touch()
    assert read_status(run).state == "done"


def test_judged_run_keeps_only_inputs_with_a_pair(run: Path) -> None:
    replace_json(run / MANIFEST, manifest(seed=0, judges=["sandbox"]))
    write_lines(run / ROWS, [pair(1), pair(1, 1)])
    status = read_status(run)
    assert (status.counts.kept, status.counts.pairs, status.owed) == (1, 2, 7)


def test_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=str(tmp_path)):
        read_status(tmp_path)
