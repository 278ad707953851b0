"""Checkpoints derived from another, for tests of what replaces weights in a running engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cai.policy.manifest import Probe

Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def derive(source: Path, out: Path, change: Change, *, num_shards: int = 1) -> Path:
    """A copy of the model folder `source` with its tensors changed; its manifest stays behind."""
    skipped = shutil.ignore_patterns("*.safetensors", "*.index.json", "manifest.json")
    shutil.copytree(source, out, ignore=skipped)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(source.glob("*.safetensors")):
        tensors |= load_file(path)
    save(change(tensors), out, num_shards=num_shards)
    return out


def save(tensors: dict[str, torch.Tensor], out: Path, *, num_shards: int) -> None:
    """Write the weights as one file, or as shards with their index."""
    if num_shards == 1:
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for index in range(num_shards):
        part = {name: tensors[name] for name in sorted(tensors)[index::num_shards]}
        file_name = f"model-{index + 1:05d}-of-{num_shards:05d}.safetensors"
        save_file(part, out / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file_name)
    index_file = {"metadata": {}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index_file))


def shuffled(seed: int) -> Change:
    """Every matrix with its rows in another order: plainly another policy, as sane in numbers."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return {
            name: one[torch.randperm(len(one))].contiguous() if one.ndim == 2 else one
            for name, one in sorted(tensors.items())
        }

    return change


def nudged(size: float, seed: int = 3) -> Change:
    """A step of training: every tensor moves by `size` times its own spread."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return {
            name: (one.float() + size * one.float().std() * torch.randn(one.shape)).to(one.dtype)
            for name, one in sorted(tensors.items())
        }

    return change


def as_float32(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same values in float32."""
    return {name: one.float() for name, one in tensors.items()}


def logprobs_of(folder: Path, ids: Sequence[int], dtype: torch.dtype = torch.float32) -> Any:
    """Log-probs of every token after the first by transformers, (tokens - 1, vocabulary)."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits[0, :-1].float().log_softmax(-1)


def probe_of(
    folder: Path, prompt: Sequence[int], continuation: Sequence[int], **options: Any
) -> Probe:
    """A probe with the log-probs that transformers computes with the checkpoint in `folder`."""
    ids = [*prompt, *continuation]
    own = logprobs_of(folder, ids, **options)[len(prompt) - 1 :]
    found = own[torch.arange(len(continuation)), torch.tensor(continuation)]
    return Probe(
        prompt_ids=tuple(prompt),
        continuation_ids=tuple(continuation),
        logprobs=tuple(min(0.0, one) for one in found.tolist()),
    )
