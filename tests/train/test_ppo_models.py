"""The networks of PPO: nothing random is left in a pass, whatever a family keeps its rates in."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' own, at import
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from cai.train.ppo_models import without_dropout

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 20}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "modules": ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.5}),
    "a module's numbers": ("opt", {"num_hidden_layers": 2, "ffn_dim": 16, "dropout": 0.5}),
    "layers left out": ("opt", {"num_hidden_layers": 6, "ffn_dim": 16, "layerdrop": 0.5}),
    "another name": ("bloom", {"n_layer": 2, "hidden_dropout": 0.5}),
    "the config": ("falcon", {"num_hidden_layers": 2, "hidden_dropout": 0.5}),
}


@pytest.mark.parametrize(("kind", "given"), FAMILIES.values(), ids=FAMILIES)
def test_two_passes_in_training_are_alike(kind, given):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**SIZES, **given})
    model = AutoModelForCausalLM.from_config(config).train()
    ids = torch.arange(8)[None]
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
    without_dropout(model)
    assert model.training
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
    assert {name: getattr(model.config, name) for name in given} == given  # is exported
