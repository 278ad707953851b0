"""PPO's rollouts on real vLLM: the weights that are handed over are those that answer.

One engine of its own for the module: its weights change.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai.errors import ReloadError
from tests.train.ppo_runs import settings, write_models

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' and accelerate's own, at import

    from cai.train.base import load_policy
    from cai.train.config import LoraConfig
    from cai.train.ppo import iterate
    from cai.train.ppo_parts import Parts, encode_prompts, load_value, open_parts
    from cai.train.ppo_schedule import Schedule
    from cai.train.ppo_state import PpoState
    from cai.train.sources import load_prompts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """An open run; its thread has no event loop, as a trainer's has none."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    folder = tmp_path_factory.mktemp("vllm")
    models = write_models(folder / "models")
    given = settings(folder, models, rollouts="vllm", engine_args={"max_num_seqs": 32})
    policy = load_policy(given.policy, given)
    prompts = encode_prompts(load_prompts(given.data), policy.encoder, policy.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM leaves its message context to the collector
        with open_parts(policy, load_value(policy), prompts) as opened:
            yield opened
        gc.collect()


def weights_folders(parts: Parts) -> list[Path]:
    rollouts: Any = parts.rollouts
    return sorted(rollouts._folder.iterdir())


def test_an_iteration_hands_the_new_weights_over(parts):
    """The sampler's log-probs are the trainer's before the update and after it."""
    state = PpoState(kl_coef=0.05)
    schedule = Schedule.of(parts.config, len(parts.prompts.train))
    parts.rollouts.push(parts.policy.model)
    before = [p.detach().clone() for p in parts.policy.model.parameters()]
    rows = [iterate(parts, state, schedule) for _ in range(3)]
    moved = max(
        float((now - old).abs().max())
        for now, old in zip(parts.policy.model.parameters(), before, strict=True)
    )
    assert moved > 1e-3
    assert all(row["gap_max_abs"] < 0.01 for row in rows)
    assert all(row["push_max_abs_diff"] < 0.01 for row in rows)
    assert rows[-1]["kl_answer"] != 0
    assert len(weights_folders(parts)) == 1  # those before are gone
    assert weights_folders(parts)[0].parent.parent == Path("/dev/shm")


def test_greedy_answers_are_the_trainers_own(parts):
    """What vLLM finds likeliest under the pushed weights is what torch finds likeliest."""
    from cai.train.rollouts import TorchRollouts

    parts.rollouts.push(parts.policy.model)
    prompts = [prompt.ids for prompt in parts.prompts.train[:8]]
    theirs = parts.rollouts.sample(prompts, max_tokens=8, greedy=True)
    own = TorchRollouts(parts.policy.model, end_ids=parts.policy.encoder.end_ids)
    mine = own.sample(prompts, max_tokens=8, greedy=True)
    same = sum(a.response_ids == b.response_ids for a, b in zip(theirs, mine, strict=True))
    assert same >= 7  # a near tie may go either way


def test_adapters_are_handed_over_merged(parts, tmp_path):
    """The probes' log-probs are those of the model with adapters; vLLM gets whole weights."""
    import torch

    from cai.train.ppo_models import Actor
    from cai.train.ppo_parts import probed

    given = parts.config.model_copy(update={"lora": LoraConfig(rank=4)})
    model = load_policy(given.policy, given).model
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    rollouts: Any = parts.rollouts
    true_probing = rollouts._probing
    before = true_probing()
    rollouts._probing = lambda: probed(Actor(model), before)
    try:
        push = parts.rollouts.push(model)
        now = rollouts._probing()
    finally:
        rollouts._probing = true_probing
    assert push.max_abs_diff < 0.01
    assert max(abs(a - b) for a, b in zip(now[0].logprobs, before[0].logprobs, strict=True)) > 0.05
    assert parts.rollouts.push(parts.policy.model).max_abs_diff < 0.01


def test_weights_that_do_not_say_what_the_trainer_says_stop_the_run(parts):
    """The probes are those of other weights: the push fails with figures, the old ones answer."""
    rollouts: Any = parts.rollouts
    true_probing = rollouts._probing
    wrong = [
        probe.model_copy(update={"logprobs": tuple(x - 1.0 for x in probe.logprobs)})
        for probe in true_probing()
    ]
    rollouts._probing = lambda: tuple(wrong)
    try:
        with pytest.raises(ReloadError, match=r"off by up to (1|1\.0\d*|0\.99\d*) \(limit 0\.0"):
            parts.rollouts.push(parts.policy.model)
    finally:
        rollouts._probing = true_probing
    assert parts.rollouts.push(parts.policy.model).max_abs_diff < 0.01


def test_closing_leaves_neither_engine_nor_weights(parts):
    """The last test of the module: it closes the sampler, which `open_parts` does again."""
    rollouts: Any = parts.rollouts
    folder, engine = rollouts._folder, rollouts._engine
    before = set(engine.pids())  # with those of other tests' engines in this process
    parts.rollouts.close()
    assert not folder.exists()
    assert len(before - set(engine.pids())) == 1, "core and worker are one process"
    parts.rollouts.close()


def test_folders_of_killed_runs_are_swept(tmp_path):
    from cai.train.rollouts_vllm import sweep

    dead = tmp_path / "cai-ppo-4194999-abc"  # above the largest pid
    mine = tmp_path / f"cai-ppo-{os.getpid()}-abc"
    for folder in (dead, mine):
        folder.mkdir()
    assert sweep(tmp_path) == [dead]
    assert mine.exists()
    assert not dead.exists()
