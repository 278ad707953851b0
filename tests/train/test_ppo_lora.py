"""PPO with adapters: what learns, what is handed on, what a checkpoint brings back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.train.ppo_runs import settings, write_models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' and accelerate's own, at import
    import torch

    from cai.train import ppo, ppo_parts
    from cai.train.adapters import beneath, merged_state, score_head
    from cai.train.base import load_policy
    from cai.train.ppo_state import PpoState, restore_state, save_state
    from cai.train.sources import load_prompts

pytestmark = pytest.mark.filterwarnings("ignore")

LORA = {"rank": 4, "alpha": 8.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def opened(folder: Path, models: Path, **given: Any) -> Any:
    """The context of an open run with adapters, whose second matrices are drawn, not 0."""
    config = settings(folder, models, lora=LORA, **given)
    policy = load_policy(config.policy, config)
    value = ppo_parts.load_value(policy)
    torch.manual_seed(5)
    for model in (policy.model, value):
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
    prompts = ppo_parts.encode_prompts(load_prompts(config.data), policy.encoder, policy.config)
    return ppo_parts.open_parts(policy, value, prompts)


def test_merged_weights_say_what_the_adapters_say(tmp_path, models):
    with opened(tmp_path, models) as parts:
        model = parts.policy.model
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        plain = load_policy(str(models / "policy"), settings(tmp_path, models)).model
        merged = merged_state(model)
        assert merged.keys() == plain.state_dict().keys()
        plain.load_state_dict(merged)
        ids = torch.arange(12)[None]
        assert torch.allclose(plain(ids).logits, model(ids).logits, atol=1e-5)
        assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_a_model_without_adapters_is_its_own(tmp_path, models):
    plain = load_policy(str(models / "policy"), settings(tmp_path, models)).model
    assert beneath(plain) is plain
    assert merged_state(plain).keys() == plain.state_dict().keys()


def test_adapters_and_heads_learn_and_nothing_else(tmp_path, models):
    """Two networks; the value model's head begins as the reward model's."""
    with opened(tmp_path, models) as parts:
        learns = {p for group in parts.trained.optimizer.param_groups for p in group["params"]}
        named = [
            *parts.policy.model.named_parameters(),
            *parts.trained.critic.model.named_parameters(),
        ]
        names = {name for name, weight in named if weight in learns}
        assert all("lora_" in name or "score.modules_to_save" in name for name in names)
        assert any("score" in name for name in names)
        head = load_file(models / "reward" / "model.safetensors")["score.weight"]
        assert torch.equal(score_head(parts.trained.critic.model).weight, head)


def test_a_checkpoint_brings_adapters_and_head_back(tmp_path, models):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with opened(tmp_path / "one", models) as parts:
        torch.nn.init.ones_(score_head(parts.trained.critic.model).weight)
        saved = save_state(
            tmp_path, PpoState(kl_coef=0.1, iteration=3), parts.policy, parts.trained
        )
        wanted = [merged_state(parts.policy.model), merged_state(parts.trained.critic.model)]
    config = settings(tmp_path / "two", models, lora=LORA)
    policy = load_policy(config.policy, config)
    prompts = ppo_parts.encode_prompts(load_prompts(config.data), policy.encoder, policy.config)
    with ppo_parts.open_parts(policy, ppo_parts.load_value(policy), prompts) as parts:
        assert restore_state(saved.folder, parts.policy, parts.trained).iteration == 3
        found = [merged_state(parts.policy.model), merged_state(parts.trained.critic.model)]
        assert torch.equal(
            score_head(parts.trained.critic.model).weight,
            torch.ones_like(score_head(parts.trained.critic.model).weight),
        )
    for mine, theirs in zip(found, wanted, strict=True):
        assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_with_adapters_exports_a_whole_policy(tmp_path, models, checkpointing):
    config = settings(tmp_path, models, lora=LORA, epochs=2, gradient_checkpointing=checkpointing)
    found = ppo.run(config)
    before = load_file(models / "policy" / "model.safetensors")
    after = load_file(found.folder / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all("_proj" in name for name in changed)
