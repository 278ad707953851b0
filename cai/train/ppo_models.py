"""The networks of PPO as modules that read only what PPO needs: response tokens, without padding.

`Actor` gives log-probs of the sampled tokens, `Critic` one number per place. Both read a `Layout`,
padded on the right, where causal attention needs no mask.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cai.errors import UnsupportedError
from cai.train.adapters import beneath, score_head
from cai.train.ppo_layout import Layout


class Scored(NamedTuple):
    """Log-probs of the tokens in nats, and the policy's entropy at their places where asked for."""

    logprobs_N: Tensor
    entropy_N: Tensor | None


class Actor(nn.Module):  # type: ignore[misc]
    """A causal language model that gives log-probs at temperature 1, computed in float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._has_plain_head = _has_plain_head(beneath(model))

    def forward(self, layout: Layout, *, with_entropy: bool = False) -> Scored:
        """Log-probs of `layout.tokens_N`; the head is applied to the response's places alone."""
        whole = beneath(self.model)
        if self._has_plain_head:
            states = _states(whole.base_model, layout)
            logits = whole.get_output_embeddings()(states).float()
        else:
            output = whole(input_ids=layout.ids_BL, use_cache=False).logits
            logits = output.flatten(0, 1)[layout.places_N].float()
        logprobs = -functional.cross_entropy(logits, layout.tokens_N, reduction="none")
        return Scored(logprobs, _entropy(logits) if with_entropy else None)


class Critic(nn.Module):  # type: ignore[misc]
    """A sequence classifier with one output: a value before each token, or a reward at the end."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        head = score_head(model)
        if not isinstance(head, nn.Linear) or head.out_features != 1:
            raise UnsupportedError(
                f"{type(model).__name__} has no linear 'score' head with one output; "
                "train the reward model with: cai train reward"
            )
        self.model = model

    def forward(self, layout: Layout) -> Tensor:
        """Values (N,) at the places before each response token, in the reward's unit."""
        return self._head(_states(beneath(self.model).base_model, layout))

    def rewards(self, layout: Layout) -> Tensor:
        """Rewards (B,) at each row's last token."""
        return self._head(_states(beneath(self.model).base_model, layout, layout.last_B))

    def _head(self, states: Tensor) -> Tensor:
        values: Tensor = score_head(self.model)(states).float().squeeze(-1)
        return values


def frozen_copy(model: Any) -> Any:
    """A copy of its present weights that later training leaves alone."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def without_dropout(model: Any) -> Any:
    """PPO compares the log-probs of two passes: anything random in a pass would count as change.

    Layers that look their rates up in the config get one of their own: the model's is exported.
    """
    calm = copy.deepcopy(model.config)
    _set_no_rates(calm)
    for module in model.modules():
        _set_no_rates(module)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if module is not model and getattr(module, "config", None) is model.config:
            module.config = calm
    return model


def _set_no_rates(holder: Any) -> None:
    """Put 0 for every number that is named after dropping: `attn_pdrop`, `layerdrop`, …."""
    for name, value in vars(holder).items():
        if "drop" in name and isinstance(value, float):
            setattr(holder, name, 0.0)


def _states(backbone: Any, layout: Layout, places: Tensor | None = None) -> Tensor:
    hidden = backbone(input_ids=layout.ids_BL, use_cache=False).last_hidden_state
    at: Tensor = layout.places_N if places is None else places
    states: Tensor = hidden.flatten(0, 1)[at]
    return states


def _entropy(logits: Tensor) -> Tensor:
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _has_plain_head(model: Any) -> bool:
    """Whether logits are the head of the last hidden state: some models scale or cap them."""
    device = next(model.parameters()).device
    ids = torch.arange(4, device=device)[None]
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    whole = model(input_ids=ids, use_cache=False).logits
    return bool(torch.allclose(model.get_output_embeddings()(hidden), whole, rtol=1e-4, atol=1e-4))
