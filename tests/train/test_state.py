"""The run directory: one run under one set of settings, whole checkpoints, nothing else."""

import pytest

from cai.errors import ConfigError, ConflictError, DataError, NotFoundError
from cai.train.state import RunFolder, keep_only, read_done, saved_states, seal_state

SETTINGS = {"seed": 7, "epochs": 1.0}


def opened(folder, settings=SETTINGS, **more):
    return RunFolder.open(folder, settings, config="seed: 7\n", **more)


def checkpoint(run, step, *, whole=True):
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "training_args.bin").write_bytes(b"pickle")
    if whole:
        seal_state(folder, step)
    return folder


def test_the_same_settings_go_on_and_others_are_named(tmp_path):
    opened(tmp_path / "r").close()
    opened(tmp_path / "r").close()
    with pytest.raises(ConfigError, match="seed was 7 and is 8"):
        opened(tmp_path / "r", {**SETTINGS, "seed": 8})
    opened(tmp_path / "r", {**SETTINGS, "seed": 8}, mode="fresh").close()


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(NotFoundError, match="no run to resume"):
        opened(tmp_path / "r", mode="resume")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    for mode in ("auto", "fresh"):
        with pytest.raises(DataError, match="holds files but no training run"):
            opened(tmp_path, mode=mode)
    assert (tmp_path / "thesis.txt").read_text() == "x"


def test_a_second_writer_is_refused(tmp_path):
    first = opened(tmp_path / "r")
    with pytest.raises(ConflictError, match="is writing to this run"):
        opened(tmp_path / "r")
    first.close()


def test_the_newest_whole_checkpoint_counts_and_a_torn_one_is_removed(tmp_path):
    run = opened(tmp_path / "r")
    assert run.newest() is None
    for step in (2, 10):
        checkpoint(run, step)
    torn = checkpoint(run, 12, whole=False)
    run.close()
    run = opened(tmp_path / "r")
    assert run.newest().step == 10
    assert not torn.exists()
    run.close()


def test_what_is_no_checkpoint_is_left_where_it_is(tmp_path):
    run = opened(tmp_path / "r")
    events = run.checkpoints / "runs" / "today" / "events"
    events.parent.mkdir(parents=True)
    events.write_text("loss")
    (run.checkpoints / "emissions.csv").write_text("1")
    run.close()
    opened(tmp_path / "r").close()
    assert events.exists()
    assert (run.checkpoints / "emissions.csv").exists()


def test_a_changed_checkpoint_is_not_loaded(tmp_path):
    run = opened(tmp_path / "r")
    folder = checkpoint(run, 2)
    assert not (folder / "training_args.bin").exists()
    (folder / "optimizer.pt").write_bytes(b"other")
    with pytest.raises(DataError, match=r"changed since it was written \(optimizer\.pt\)"):
        run.newest()
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "rng_state.pth").write_bytes(b"added")
    with pytest.raises(DataError, match=r"rng_state\.pth"):
        run.newest()
    run.close()


def test_others_are_removed_but_those_that_are_kept(tmp_path):
    run = opened(tmp_path / "r")
    for step in (1, 2, 3):
        checkpoint(run, step)
    keep_only(run.checkpoints, {1, 3})
    assert [state.step for state in saved_states(run.checkpoints)] == [1, 3]
    run.close()


def test_fresh_clears_only_what_is_ours(tmp_path):
    run = opened(tmp_path / "r")
    checkpoint(run, 1)
    (tmp_path / "r" / "notes.txt").write_text("mine")
    ours = [tmp_path / "r" / name for name in ("watch.json", "baselines.jsonl", "curves.jsonl")]
    for path in ours:
        path.write_text("{}\n")
    run.finish({"digest": "x"})
    run.close()
    run = opened(tmp_path / "r", mode="fresh")
    assert (read_done(run.folder), run.newest()) == (None, None)
    assert (tmp_path / "r" / "notes.txt").exists()
    assert not any(path.exists() for path in ours)
    run.close()
