"""What the sides of the PPO benchmark share: models of equal size that never end, and prompts.

One dimension of the hidden state is held constant and the end token's logit hangs on it alone, so
the end token is never sampled: every response has exactly the tokens that were asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.models import first_turns, make_model


class PpoFiles(NamedTuple):
    """Folders of the models, and the same prompts as text and as token ids, one a line."""

    policy: Path
    reward: Path
    texts: Path
    ids: Path


def make_files(folder: Path, *, num_prompts: int = 256, longest: int = 128) -> PpoFiles:
    """Write everything below `folder`. Prompts are first turns of real conversations."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    from cai.engine.open import SANDBOX_MODEL
    from cai.policy.manifest import seal

    files = PpoFiles(*(folder / name for name in ("policy", "reward", "texts.jsonl", "ids.jsonl")))
    tokenizer = AutoTokenizer.from_pretrained(SANDBOX_MODEL)
    model = AutoModelForCausalLM.from_pretrained(make_model(folder / "base"))
    never_ends(model, tokenizer.eos_token_id)
    model.save_pretrained(files.policy)
    torch.manual_seed(1)
    reward = AutoModelForSequenceClassification.from_pretrained(files.policy, num_labels=1)
    reward.save_pretrained(files.reward)
    for one in files[:2]:
        tokenizer.save_pretrained(one)
    seal(files.reward, name="reward", kind="reward", method="reward", base="random")
    with files.texts.open("w") as texts, files.ids.open("w") as ids:
        for turn in first_turns(num_prompts):
            row = [{"role": "user", "content": turn}]
            encoded = tokenizer.apply_chat_template(
                row, add_generation_prompt=True, return_dict=False
            )
            if len(encoded) <= longest:
                texts.write(json.dumps({"prompt": turn}) + "\n")
                ids.write(json.dumps(encoded) + "\n")
    return files


def never_ends(model: Any, end_id: int) -> None:
    """Hold the last hidden dimension at 1, and let the end token's logit be -10 times it."""
    import torch

    with torch.no_grad():
        model.model.embed_tokens.weight[:, -1] = 1.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[-1] = 0.0
            layer.mlp.down_proj.weight[-1] = 0.0
        head = model.get_output_embeddings().weight
        head[:, -1] = 0.0
        head[end_id] = 0.0
        head[end_id, -1] = -10.0
    model.config.eos_token_id = model.generation_config.eos_token_id = end_id
