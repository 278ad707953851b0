"""A PPO run small enough for a test: a random policy, a random reward model, prompts, settings."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from cai.policy.manifest import seal
from cai.train.config import PpoConfig


def write_models(folder: Path) -> Path:
    """`policy` and `reward` below `folder`: two-layer Llamas of 64 hidden units, one tokenizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, at import
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

        from tests.tiny_model import make_tokenizer
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,  # vLLM's attention on CPU takes heads of 32 and more
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    for number, (name, kind) in enumerate(
        (("policy", LlamaForCausalLM), ("reward", LlamaForSequenceClassification))
    ):
        torch.manual_seed(number)
        model = kind(config)
        if name == "reward":
            torch.nn.init.normal_(model.score.weight, std=1.0)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    seal(folder / "reward", name="reward", kind="reward", method="reward", base="tiny")
    return folder


def write_prompts(path: Path, *, num: int = 20) -> Path:
    path.write_text(
        "".join(json.dumps({"prompt": f"Tell me about {n}."}) + "\n" for n in range(num))
    )
    return path


def settings(folder: Path, models: Path, **given: Any) -> PpoConfig:
    """A run below `folder` that samples with torch; a few seconds for a few iterations."""
    values: dict[str, Any] = {
        "policy": str(models / "policy"),
        "reward": str(models / "reward"),
        "data": (write_prompts(folder / "prompts.jsonl"),),
        "name": "tiny",
        "run_dir": folder / "run",
        "out": folder / "out",
        "rollouts": "torch",
        "rollout_size": 16,
        "batch_size": 8,
        "ppo_epochs": 2,
        "max_new_tokens": 8,
        "learning_rate": 1e-3,
        "value_learning_rate": 3e-3,
        "num_threads": 1,
        "num_probes": 2,
        "missing_eos_penalty": 0.0,
        "saves_per_epoch": 1000,
        "epochs": 4,
        "patience": None,
    }
    return PpoConfig.model_validate({**values, **given})
