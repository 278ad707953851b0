"""Pairs that a tiny model can learn from in seconds, configs for them, and a tiny reward model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from cai.dataset.preferences import preference_row
from cai.train.base import load_frozen, load_tokenizer
from cai.train.config import DpoConfig, RewardConfig
from cai.train.encode import Encoder, end_ids_of
from cai.train.export import export_policy
from cai.train.pairs_data import EncodedPair
from cai.train.reward import reward_probes
from cai.types import Message

NOUNS = ("fox", "dog", "egg", "water", "minute", "boil", "lazy", "quick", "brown", "seven")
GOOD, BAD = "Put the egg into boiling water.", "No change."


def rows(num: int, *, p_chosen: float = 1.0, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Rows in which one answer is always the better one, whatever the prompt."""
    draw = random.Random(seed)
    found = []
    for index in range(num):
        words = " ".join(draw.choices(NOUNS, k=3))
        prompt = (Message("user", f"{index} {words}?"),)
        noun = draw.choice(NOUNS)
        found.append(
            preference_row(
                prompt=prompt,
                chosen=f"{GOOD} {noun}",
                rejected=f"{BAD} {noun}",
                p_chosen=p_chosen,
                source="ai",
                **more,
            )
        )
    return found


def write(path: Path, values: Iterable[Any]) -> Path:
    """A .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def settings(root: Path, model: Path, data: Path, **more: Any) -> dict[str, Any]:
    """What both configs of these tests share."""
    return {
        "policy": str(model),
        "data": (data,),
        "name": "p",
        "run_dir": root / "run",
        "out": root / "out",
        "learning_rate": 1e-3,
        "batch_size": 8,
        "num_threads": 1,
        "num_probes": 4,
        "validation_share": 0.2,
        **more,
    }


def reward_config(root: Path, model: Path, data: Path, **more: Any) -> RewardConfig:
    return RewardConfig(**settings(root, model, data, **more))


def dpo_config(root: Path, model: Path, data: Path, **more: Any) -> DpoConfig:
    few = {"num_watched": 4, "max_new_tokens": 8}
    return DpoConfig(**{**settings(root, model, data), **few, **more})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of an exported policy."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def write_reward_model(folder: Path, base: Path, *, name: str = "rm") -> Path:
    """A reward model with a random head on the tiny model, sealed with two probes."""
    torch.manual_seed(1)
    model = load_frozen(AutoModelForSequenceClassification, base, num_labels=1)
    torch.nn.init.normal_(model.score.weight)
    tokenizer = load_tokenizer(base)
    encoder = Encoder(tokenizer, end_ids=end_ids_of(model, tokenizer))
    ask = (Message("user", "Boil an egg?"),)
    pair = EncodedPair(
        encoder.prompt(ask), encoder.answer(ask, GOOD), encoder.answer(ask, BAD), 1.0
    )
    export_policy(
        model,
        tokenizer,
        folder,
        dtype=torch.float32,
        name=name,
        kind="reward",
        method="reward",
        base="tiny",
        reward_probes=reward_probes(model, [pair], num=2, seed=0),
    )
    return folder
