"""What a PPO run needs to go on after a kill, in a checkpoint folder of `cai.train.state`.

    checkpoint-N/  model.safetensors, config.json (policy)  value/  optimizer.safetensors
                   rng.safetensors  ppo.json  checkpoint.json (the seal, written last)

Tensors are safetensors and the rest is JSON: nothing is pickled. Start from `save_state` and
`restore_state`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from cai.files import read_json, replace_json
from cai.train.adapters import load_trained
from cai.train.base import LoadedPolicy, load_frozen, load_saved
from cai.train.ppo_update import Trained
from cai.train.state import SavedState, keep_only, seal_state

STATE = "ppo.json"
_VALUE, _OPTIMIZER, _RNG = "value", "optimizer.safetensors", "rng.safetensors"


class PpoState(BaseModel):
    """Counters of a run. With the seed they decide the order of prompts and of minibatches."""

    model_config = ConfigDict(extra="forbid")

    iteration: int = 0
    """Iterations that are done."""
    episodes: int = 0
    """Episodes that were trained on."""
    optimizer_steps: int = 0
    """Steps that the optimizer made."""
    kl_coef: float
    """Coefficient of the KL penalty in the next iteration."""
    best: int | None = None
    """The iteration whose weights are kept as the best so far."""
    evaluations: list[dict[str, float]] = []
    """Figures of each validation, with its iteration as `step`."""
    watch: dict[str, Any] | None = None
    """What the watch for reward hacking remembers."""
    stopped_because: str | None = None
    """Why the run ended before its last iteration."""


class FlatOptimizer(NamedTuple):
    """An optimizer's state: JSON, and named tensors."""

    plain: dict[str, Any]
    tensors: dict[str, Tensor]


def save_state(
    folder: Path, state: PpoState, policy: LoadedPolicy[Any], trained: Trained
) -> SavedState:
    """Write `checkpoint-N` below `folder`, sealed last; older ones but the best go."""
    target = folder / f"checkpoint-{state.iteration}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    policy.model.save_pretrained(target)
    trained.critic.model.save_pretrained(target / _VALUE)
    flat = flatten_optimizer(trained.optimizer.state_dict())
    save_file(flat.tensors, target / _OPTIMIZER)
    save_file(_rng_tensors(), target / _RNG)
    replace_json(target / STATE, {"state": state.model_dump(), "optimizer": flat.plain})
    seal_state(target, state.iteration)
    keep_only(folder, {state.iteration, state.best or state.iteration})
    return SavedState(state.iteration, target)


def restore_state(folder: Path, policy: LoadedPolicy[Any], trained: Trained) -> PpoState:
    """Put a checkpoint's weights, optimizer and random state in place; gives its counters."""
    found = read_json(folder / STATE)
    load_trained(policy.model, folder, lambda: load_saved(policy, folder).state_dict())
    value = folder / _VALUE
    kind = AutoModelForSequenceClassification
    load_trained(trained.critic.model, value, lambda: load_frozen(kind, value).state_dict())
    flat = FlatOptimizer(found["optimizer"], load_file(folder / _OPTIMIZER))
    trained.optimizer.load_state_dict(unflatten_optimizer(flat))
    rng = load_file(folder / _RNG)
    torch.set_rng_state(rng["torch"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng["cuda"])
    return PpoState.model_validate(found["state"])


def flatten_optimizer(state: Mapping[str, Any]) -> FlatOptimizer:
    """`Optimizer.state_dict()` as JSON and tensors: parameter 3's `exp_avg` is `3.exp_avg`.

    Numbers beside the tensors stay in the JSON, so that nothing changes its type.
    """
    plain: dict[str, Any] = {"param_groups": _as_json(state["param_groups"]), "state": {}}
    tensors: dict[str, Tensor] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                plain["state"].setdefault(str(index), {})[name] = value
    return FlatOptimizer(plain, tensors)


def unflatten_optimizer(flat: FlatOptimizer) -> dict[str, Any]:
    """The reverse of `flatten_optimizer`, for `Optimizer.load_state_dict`."""
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in flat.plain["state"].items()
    }
    for key, value in flat.tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in flat.plain["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def _rng_tensors() -> dict[str, Tensor]:
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    return value
