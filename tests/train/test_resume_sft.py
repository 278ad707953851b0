"""A run that is killed at any step and started again ends as one that was never broken."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from cai.errors import ConfigError, DataError
from cai.train import sft
from cai.train.curves import read_curves
from cai.train.state import saved_states
from tests.train.runs import sft_config, transcript, write_lines, write_run

pytestmark = pytest.mark.usefixtures("one_thread")

DROPOUT = {"rank": 2, "dropout": 0.2}  # the random state counts too

KILLED = """
import json, os, signal, sys
from cai.train import sft
from cai.train.config import SftConfig

def kill(now):
    if now.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

sft.run(SftConfig.model_validate(json.load(sys.stdin)), progress=kill)
"""


class Stop(Exception):
    pass


def stop_at(step):
    def stop(now):
        if now.step == step:
            raise Stop

    return stop


@pytest.fixture
def config(model_folder, tmp_path):
    data = write_run(tmp_path / "data")

    def make(name, **more):
        settings = {"epochs": 2, "learning_rate": 2e-3, **more}
        return sft_config(tmp_path / name, data, model_folder, **settings)

    return make


def same(one, other):
    first, second = (load_file(c.out / "model.safetensors") for c in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_a_killed_run_goes_on_to_the_same_weights_and_curves(config):
    """12 steps, saved after 3, 6, …; killed with SIGKILL after 8, in the second epoch."""
    whole, broken = config("whole"), config("broken")
    expected = sft.run(whole)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        input=json.dumps(broken.model_dump(mode="json")),
        text=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not broken.out.exists()
    assert saved_states(broken.run_dir / "checkpoints")[-1].step == 6
    steps = []
    found = sft.run(broken, progress=lambda now: steps.append(now.step), mode="resume")
    assert steps == list(range(7, 13))
    assert same(whole, broken)
    assert found.metrics == expected.metrics
    assert found.manifest.digest == expected.manifest.digest
    assert found.manifest.probes == expected.manifest.probes
    assert read_curves(broken.run_dir) == read_curves(whole.run_dir)


@pytest.mark.parametrize("step", [1, 4, 6, 12])
def test_with_dropout_too_wherever_it_stopped(config, step):
    whole, broken = config("whole", lora=DROPOUT), config("broken", lora=DROPOUT)
    sft.run(whole)
    with pytest.raises(Stop):
        sft.run(broken, progress=stop_at(step))
    sft.run(broken)
    assert same(whole, broken)
    assert read_curves(broken.run_dir) == read_curves(whole.run_dir)


def test_micro_batches_and_an_early_stop_resume_alike(config):
    more = {"micro_batch_size": 2, "patience": 1, "learning_rate": 0.1, "epochs": 6}
    whole, broken = config("whole", **more), config("broken", **more)
    expected = sft.run(whole)
    with pytest.raises(Stop):
        sft.run(broken, progress=stop_at(4))
    assert sft.run(broken).metrics == expected.metrics
    assert same(whole, broken)


def test_a_kill_between_export_and_done_makes_the_same_policy(config):
    one = config("one")
    first = sft.run(one)
    (one.run_dir / "DONE").unlink()
    steps = []
    again = sft.run(one, progress=lambda now: steps.append(now.step))
    assert steps == []
    assert again.manifest.digest == first.manifest.digest


def test_a_torn_checkpoint_is_ignored_and_removed(config):
    whole, broken = config("whole"), config("broken")
    sft.run(whole)
    with pytest.raises(Stop):
        sft.run(broken, progress=stop_at(8))
    torn = broken.run_dir / "checkpoints" / "checkpoint-8"
    torn.mkdir()
    (torn / "optimizer.pt").write_bytes(b"half")
    sft.run(broken)
    assert not torn.exists()
    assert same(whole, broken)


def test_a_changed_optimizer_state_is_never_loaded(config):
    broken = config("broken")
    with pytest.raises(Stop):
        sft.run(broken, progress=stop_at(8))
    state = saved_states(broken.run_dir / "checkpoints")[-1].folder / "optimizer.pt"
    state.write_bytes(state.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"changed since it was written \(optimizer\.pt\)"):
        sft.run(broken)


def test_other_settings_or_data_are_named_and_fresh_starts_over(config, tmp_path):
    broken = config("broken")
    with pytest.raises(Stop):
        sft.run(broken, progress=stop_at(4))
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.002 and is 0\.001"):
        sft.run(config("broken", learning_rate=1e-3))
    write_lines(tmp_path / "data" / "transcripts.jsonl", map(transcript, range(13)))
    with pytest.raises(ConfigError, match=r"data\.0 was"):
        sft.run(broken)
    steps = []
    sft.run(broken, progress=lambda now: steps.append(now.step), mode="fresh")
    assert steps[0] == 1
