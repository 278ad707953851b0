"""Adapters in a loop of our own: the model beneath them, its weights with them merged, their state.

peft puts its layers into the model itself, so the model beneath computes with them. Every function
takes a model without adapters too, and then is the plain thing. Start from `beneath`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_ADAPTER_FILE = "adapter_model.safetensors"
_ADAPTER_PARTS = ("lora_", "modules_to_save", "original_module")


def beneath(model: Any) -> Any:
    """The model that adapters were put into: their wrapper adds nothing but names."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def score_head(classifier: Any) -> Any:
    """The classifier's head that learns; under adapters it is a copy of the one it came with."""
    head = getattr(beneath(classifier), "score", None)
    copies = getattr(head, "modules_to_save", None)
    return head if copies is None else copies["default"]


@torch.no_grad()  # type: ignore[untyped-decorator]
def merged_state(model: Any) -> dict[str, Tensor]:
    """The whole weights under the names of the model beneath, the adapters added in float32.

    The model stays as it is: merging in place and taking it back would leave rounding behind.
    """
    whole = beneath(model)
    state = whole.state_dict()
    if whole is model:
        return dict(state)
    tuned = {name: module for name, module in whole.named_modules() if _is_tuned(module)}
    merged = {}
    for name, tensor in state.items():
        owner, is_beneath, rest = name.partition(".base_layer.")
        if not is_beneath:
            if not any(part in name for part in _ADAPTER_PARTS):
                merged[name] = tensor
            continue
        added = tensor
        if rest == "weight" and owner in tuned:
            added = tensor.float() + tuned[owner].get_delta_weight("default").float()
        merged[f"{owner}.{rest}"] = added
    return merged


def load_trained(model: Any, folder: Path, whole: Any) -> None:
    """Put what `save_pretrained` wrote to `folder` into `model`: adapters, or the weights `whole`.

    `whole` gives the checkpoint's state of a model without adapters; it is called for such alone.
    """
    if beneath(model) is model:
        model.load_state_dict(whole())
        return
    import peft

    peft.set_peft_model_state_dict(model, load_file(folder / _ADAPTER_FILE))


def _is_tuned(module: nn.Module) -> bool:
    return hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
