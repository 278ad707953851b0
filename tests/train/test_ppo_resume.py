"""A PPO run that is killed goes on: optimizer, counters, order, coefficient, RNG as they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from cai.errors import DataError
from cai.train.curves import read_curves
from cai.train.state import saved_states, verify_state
from tests.train.ppo_runs import settings, write_models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' and accelerate's own, at import
    import torch
    from safetensors.torch import load_file

    from cai.train import ppo
    from cai.train.ppo_state import FlatOptimizer, flatten_optimizer, unflatten_optimizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

GIVEN = {"epochs": 8, "kl_target": 0.5, "kl_horizon": 100}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def run_killed(folder: Path, models: Path, *, after: int) -> None:
    """The run in a process of its own, killed with SIGKILL once `after` iterations are told."""
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        "from tests.train.ppo_runs import settings\n"
        "from cai.train import ppo\n"
        "tell = lambda done: print(done.step, flush=True)\n"
        f"config = settings(Path({str(folder)!r}), Path({str(models)!r}), **{GIVEN!r})\n"
        "ppo.run(config, progress=tell)"
    )
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= after:
            break
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def test_a_killed_run_goes_on_as_an_unbroken_one(tmp_path, models):
    """With torch's sampler even the episodes repeat: curves and weights are those of no kill."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    unbroken = ppo.run(settings(whole, models, **GIVEN))

    run_killed(broken, models, after=4)
    config = settings(broken, models, **GIVEN)
    at_kill = saved_states(config.run_dir / "checkpoints")
    assert at_kill
    assert 3 <= at_kill[-1].step < 9
    assert not (config.run_dir / "DONE").exists()
    seen: list[int] = []
    resumed = ppo.run(config, progress=lambda done: seen.append(done.step))

    assert seen[0] == at_kill[-1].step + 1
    assert resumed.manifest.digest == unbroken.manifest.digest
    for mine, theirs in zip(read_curves(config.run_dir), read_curves(whole / "run"), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {n for n in mine if n.startswith("seconds_")}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-6), name


def test_the_state_that_is_restored_is_the_state_that_was_saved(tmp_path, models):
    """Optimizer, counters, coefficient and RNG of a checkpoint, against those of an open run."""
    config = settings(tmp_path, models, **GIVEN, max_steps=12)
    ppo.run(config)
    newest = saved_states(config.run_dir / "checkpoints")[-1]
    found = json.loads((newest.folder / "ppo.json").read_text())
    assert found["state"]["iteration"] == newest.step == 3
    assert found["state"]["optimizer_steps"] == 12
    assert found["state"]["episodes"] == 48
    last = read_curves(config.run_dir)[-1]
    assert found["state"]["kl_coef"] != last["kl_coef"]  # already that of the next iteration
    steps = {
        float(value)
        for name, value in load_file(newest.folder / "optimizer.safetensors").items()
        if name.endswith(".step")
    }
    assert steps == {8.0, 12.0}  # the policy rested in the warm-up


def test_a_checkpoint_holds_no_pickle_and_its_digests(tmp_path, models):
    config = settings(tmp_path, models, epochs=1)
    ppo.run(config)
    newest = saved_states(config.run_dir / "checkpoints")[-1].folder
    assert {path.suffix for path in newest.rglob("*") if path.is_file()} == {
        ".safetensors",
        ".json",
    }
    verify_state(newest)
    damaged = bytearray((newest / "optimizer.safetensors").read_bytes())
    damaged[-1] ^= 1
    (newest / "optimizer.safetensors").write_bytes(damaged)
    with pytest.raises(DataError, match=r"optimizer\.safetensors"):
        verify_state(newest)


def test_an_optimizer_survives_flattening():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": layer.parameters(), "lr": 0.1, "peak": 0.2}])
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    flat = flatten_optimizer(optimizer.state_dict())
    through_json = FlatOptimizer(json.loads(json.dumps(flat.plain)), flat.tensors)
    again = unflatten_optimizer(through_json)
    before = optimizer.state_dict()
    assert again["param_groups"] == before["param_groups"]
    assert again["state"].keys() == before["state"].keys()
    for index, values in before["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(again["state"][index][name]), torch.as_tensor(value))
    optimizer.load_state_dict(again)
