"""The optimizer of the matrices inside the layers: Muon, in float32.

Method: Jordan et al. 2024, "Muon: an optimizer for hidden layers". Start from `Muon`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Coefficients of the quintic iteration, from the method's authors."""


class Muon:
    """Momentum whose step is made orthogonal.

    Torch's own works in bfloat16, which is some twenty times slower on a CPU without it. Steps are
    scaled to the size that AdamW's have, so one learning rate serves both.
    """

    def __init__(self, params: Sequence[Any], lr: float, weight_decay: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": lr}]
        self.weight_decay = weight_decay
        self._by_shape: dict[Any, list[Any]] = {}
        for param in params:
            self._by_shape.setdefault(param.shape, []).append(param)
        self._momenta = {id(param): torch.zeros_like(param) for param in params}

    def step(self) -> None:
        """One update; matrices of one shape are made orthogonal together."""
        lr = self.param_groups[0]["lr"]
        with torch.no_grad():
            for shape, params in self._by_shape.items():
                steps_NRC = orthogonal(torch.stack([self._nesterov(p) for p in params]))
                for param, step_RC in zip(params, steps_NRC, strict=True):
                    param.mul_(1 - lr * self.weight_decay)
                    param.add_(step_RC, alpha=-lr * 0.2 * math.sqrt(max(shape)))

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for param in (p for params in self._by_shape.values() for p in params):
            param.grad = None if set_to_none else torch.zeros_like(param)

    def _nesterov(self, param: Any) -> torch.Tensor:
        momentum = self._momenta[id(param)].lerp_(param.grad, 1 - MOMENTUM)
        mixed: torch.Tensor = param.grad.lerp(momentum, MOMENTUM)
        return mixed


def orthogonal(batch_NRC: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrices, roughly, by five Newton-Schulz steps."""
    a, b, c = NEWTON_SCHULZ
    tall = batch_NRC.shape[-2] > batch_NRC.shape[-1]
    x = batch_NRC.mT if tall else batch_NRC
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
