"""One update on a tiny model: what is clipped when, and what whitened rewards add up to."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

from cai.train.rollouts import Episode
from tests.train.test_ppo_bandit import PROMPT, make_networks, settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # accelerate's own, at import
    from accelerate import Accelerator

    from cai.train.ppo_update import Batch, Trained, assess, update, with_advantages


def assessed(*responses: tuple[int, ...]) -> tuple[Batch, Trained]:
    """Episodes with these responses, as new networks see them."""
    torch.manual_seed(0)
    actor, reference, critic = make_networks()
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
    trained = Trained(actor, critic, optimizer, Accelerator(cpu=True))
    episodes = [Episode(PROMPT, ids, (-1.0,) * len(ids), True) for ids in responses]
    accelerator: Any = trained.accelerator
    batch = assess(episodes, actor, reference, critic, max_rows=8, accelerator=accelerator)
    return batch, trained


@pytest.mark.parametrize(("only_value", "loss", "share"), [(True, 0.5, 0.0), (False, 6.125, 1.0)])
def test_the_critics_warm_up_is_not_clipped(only_value, loss, share):
    """Value v, return v + 1, old v - 3, held at v - 2.5: half of 1 when free, of 3.5² clipped."""
    batch, trained = assessed((1,), (2,))
    values = batch.values_BT
    batch = replace(batch, values_BT=values - 3, returns_BT=values + 1)
    config = settings().model_copy(update={"value_clip": 0.5, "ppo_epochs": 1})
    stats = update(batch, trained, config, order=random.Random(0), only_value=only_value)
    assert stats.value_loss == pytest.approx(loss, rel=1e-4)
    assert stats.value_clip_share == share


def test_whitened_rewards_pay_nothing_for_length():
    """Both answers score 1 and drift nowhere: one of 1 token is worth as much as one of 3."""
    batch, _ = assessed((1,), (2, 3, 4))
    batch = replace(batch, values_BT=torch.zeros_like(batch.values_BT))
    config = settings(whiten_rewards=True, gamma=1.0, lam=1.0)
    found = with_advantages(batch, [1.0, 1.0], config, kl_coef=0.0)
    short, long = found.returns_BT[:, 0].tolist()
    assert long == pytest.approx(short)
