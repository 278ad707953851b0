"""A reward model's training killed with SIGKILL: the next run ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai.train.curves import read_curves
from cai.train.reward import run
from cai.train.state import saved_states
from tests.train.killing import train_until_killed
from tests.train.pairs import reward_config, rows, write


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(
    tmp_path: Path, model_folder: Path
) -> None:
    """64 rows, some 50 to train on: 7 steps an epoch, saved every 2; dead at 9, on from 8."""
    data = write(tmp_path / "pairs.jsonl", rows(64, p_chosen=0.8))
    options = {"epochs": 2, "saves_per_epoch": 4, "patience": None}
    broken = reward_config(tmp_path / "broken", model_folder, data, **options)
    train_until_killed(broken, at_step=9)
    left = saved_states(broken.run_dir / "checkpoints")
    assert left
    assert left[-1].step <= 9
    assert not broken.out.exists()
    resumed = run(broken)
    whole = run(reward_config(tmp_path / "whole", model_folder, data, **options))
    assert resumed.manifest.files["model.safetensors"] == whole.manifest.files["model.safetensors"]
    assert resumed.manifest.reward_probes == whole.manifest.reward_probes
    figures = [
        [(row["step"], row["eval_loss"]) for row in read_curves(root / "run") if "eval_loss" in row]
        for root in (tmp_path / "broken", tmp_path / "whole")
    ]
    assert figures[0] == figures[1]
