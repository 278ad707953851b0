"""DPO killed with SIGKILL, with all weights and with adapters: the same bytes in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cai.train.curves import read_curves
from cai.train.dpo import run
from cai.train.state import saved_states
from tests.train.killing import train_until_killed
from tests.train.pairs import dpo_config, rows, write


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8.0}], ids=["full", "lora"])
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(
    tmp_path: Path, model_folder: Path, lora: Any
) -> None:
    data = write(tmp_path / "pairs.jsonl", rows(40, p_chosen=0.8))
    options = {"epochs": 2, "saves_per_epoch": 4, "patience": None, "lora": lora}
    broken = dpo_config(tmp_path / "broken", model_folder, data, **options)
    train_until_killed(broken, at_step=6)
    assert saved_states(broken.run_dir / "checkpoints")
    resumed = run(broken)
    whole = run(dpo_config(tmp_path / "whole", model_folder, data, **options))
    assert resumed.manifest.files["model.safetensors"] == whole.manifest.files["model.safetensors"]
    wanted = ("step", "eval_loss", "eval_kl", "eval_logps/ref_chosen")
    figures = [
        [[row[name] for name in wanted] for row in read_curves(root / "run") if "eval_kl" in row]
        for root in (tmp_path / "broken", tmp_path / "whole")
    ]
    assert figures[0] == figures[1]
