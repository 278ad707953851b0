"""A bandit whose optimum is known in closed form, learned by the real update on a tiny model.

One prompt, one token, known rewards. The KL-regularised optimum is
π*(a) = π_ref(a) · exp(r(a) / β) / Z (Ziegler et al. 2019): the policy's distribution must reach it.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest
import torch

from cai.train.config import PpoConfig
from cai.train.rollouts import Episode

ACTIONS = 6  # tokens of the vocabulary: every token is an action
PROMPT = (1, 2)


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


def make_networks():
    """A policy with a far from uniform reference, and a value model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, at import
        from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

        from cai.train.ppo_models import Actor, Critic, frozen_copy
    config = LlamaConfig(
        vocab_size=ACTIONS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=0,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    return Actor(model), Actor(frozen_copy(model)), Critic(LlamaForSequenceClassification(config))


def spread(actor) -> torch.Tensor:
    with torch.no_grad():
        return actor.model(torch.tensor([PROMPT])).logits[0, -1].double().softmax(-1)


def learn(rewards: torch.Tensor, config: PpoConfig, *, iterations: int):
    """Reference's and learned distribution. Sampling, assessing and updating as a run does."""
    from accelerate import Accelerator

    from cai.train.ppo_update import Trained, assess, update, with_advantages

    actor, reference, critic = make_networks()
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=0.006)
    accelerator = Accelerator(cpu=True)
    trained = Trained(actor, critic, optimizer, accelerator)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=iterations)
    first = spread(actor)
    for iteration in range(iterations):
        probabilities = spread(actor)
        drawn = torch.multinomial(probabilities, config.rollout_size, replacement=True).tolist()
        episodes = [Episode(PROMPT, (a,), (float(probabilities[a].log()),), True) for a in drawn]
        batch = assess(episodes, actor, reference, critic, max_rows=512, accelerator=accelerator)
        scores = [float(rewards[a]) for a in drawn]
        batch = with_advantages(batch, scores, config, kl_coef=config.kl_coef)
        update(batch, trained, config, order=random.Random(iteration), only_value=False)
        decay.step()
    return first, spread(actor)


def settings(**given) -> PpoConfig:
    return PpoConfig(
        data=(Path("-"),), name="x", run_dir=Path("-"), out=Path("-"), reward="-",
        rollout_size=512, batch_size=512, micro_batch_size=512, ppo_epochs=4, value_clip=None,
        **given,
    )  # fmt: skip


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_k1_reaches_the_optimum_in_closed_form(beta):
    rewards = torch.tensor([1.0, -0.5, 0.3, 0.0, 0.8, -1.0], dtype=torch.float64)
    first, last = learn(rewards, settings(kl_coef=beta, kl_estimator="k1"), iterations=50)
    tilted = first * (rewards / beta).exp()
    optimum = tilted / tilted.sum()
    assert (first - optimum).abs().sum() > 0.3  # there was something to learn
    assert (last - optimum).abs().sum() < 0.06
    kl = (optimum * (optimum / last).log()).sum().item()
    assert kl < 0.003
