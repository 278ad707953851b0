"""The training loop: what is learned from one step's chats, chains and comparison trees.

Start from `train`; the recipe's numbers are in `Recipe`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from cai.sandbox.batches import LEARNING, POLISHING, Curriculum, Row, Step, Tree, steps
from cai.sandbox.build.muon import Muon
from cai.sandbox.principles import Texts
from cai.sandbox.tokenizer import BOS, CONTEXT, END, PAD, Encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what the model becomes, beside the world itself."""

    seed: int = 7
    num_steps: int = 4500
    polish_steps: int = 1200
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 384
    learning_rate: float = 8e-3
    polish_learning_rate: float = 4e-3
    warmup_steps: int = 40
    weight_decay: float = 0.01
    compare_weight: float = 1.0
    sharpness: float = 1.3
    threads: int = 2


def train(recipe: Recipe, encoder: Encoder, texts: Texts) -> Any:
    """The trained model, in float32 and already rounded to the bfloat16 that is stored."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    model = new_model(recipe, encoder)
    curriculum, num = Curriculum(), recipe.num_steps
    lessons = steps(recipe.seed, num, encoder, texts, curriculum, LEARNING)
    _learn(model, recipe, encoder, lessons, curriculum, num, recipe.learning_rate)
    return polish(rounded(model), recipe, encoder, texts)


def polish(model: Any, recipe: Recipe, encoder: Encoder, texts: Texts) -> Any:
    """A short second phase at a low rate, on the base policy's own words and less else."""
    curriculum = Curriculum(is_over=True)
    num, rate = recipe.polish_steps, recipe.polish_learning_rate
    lessons = steps(recipe.seed + 1, num, encoder, texts, curriculum, POLISHING)
    _learn(model, recipe, encoder, lessons, curriculum, num, rate)
    return rounded(model)


def rounded(model: Any) -> Any:
    """The model with every weight as bfloat16 holds it."""
    return model.to(torch.bfloat16).to(torch.float32)


def _learn(
    model: Any,
    recipe: Recipe,
    encoder: Encoder,
    lessons: Iterable[Step],
    curriculum: Curriculum,
    num_steps: int,
    rate: float,
) -> None:
    optimizers = new_optimizers(recipe, model)
    started = time.monotonic()
    means: dict[str, float] = {}
    for number, step in enumerate(lessons):
        _set_rate(optimizers, rate * _schedule(recipe, number, num_steps))
        losses = step_losses(model, encoder, step, recipe.sharpness)
        total = losses["chat"] + losses["chain"] + recipe.compare_weight * losses["compare"]
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        curriculum.observe(losses["compare"].item())
        for name, loss in losses.items():
            means[name] = means.get(name, loss.item()) * 0.95 + loss.item() * 0.05
        if number % 50 == 0:
            shown = "  ".join(f"{name} {loss:.4f}" for name, loss in means.items())
            seconds = time.monotonic() - started
            known = curriculum.num_known
            logger.info("step %d  %s  %d dimensions  %.0f s", number, shown, known, seconds)


def _set_rate(optimizers: Sequence[Any], rate: float) -> None:
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = rate


def step_losses(
    model: Any, encoder: Encoder, step: Step, sharpness: float
) -> dict[str, torch.Tensor]:
    """Mean loss per predicted token (chat, chain), and per label above its entropy (compare)."""
    return {
        "chat": rows_loss(model, encoder, step.chats, sharpness),
        "chain": rows_loss(model, encoder, step.chains, sharpness),
        "compare": trees_loss(model, encoder, step.trees),
    }


def rows_loss(model: Any, encoder: Encoder, rows: Sequence[Row], sharpness: float) -> torch.Tensor:
    """Cross-entropy of the tokens to be learned, at the temperature `sharpness`.

    Above 1, the model at temperature 1 is surer of its words than its texts are: a model as small
    as this one spreads a little of its probability over what nobody says, and that goes first.
    Rows are padded on the right: causal suffices.
    """
    width = max(row.length for row in rows)
    ids_BT = torch.full((len(rows), width), encoder.ids[PAD])
    learn_BT = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        ids_BT[index, : row.length] = torch.tensor(row.ids)
        learn_BT[index, : row.length] = torch.tensor(row.learn)
    hidden_BTH = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    chosen = learn_BT[:, 1:]
    logits = model.lm_head(hidden_BTH[:, :-1][chosen]) / sharpness
    return functional.cross_entropy(logits, ids_BT[:, 1:][chosen])


def trees_loss(model: Any, encoder: Encoder, trees: Sequence[Tree]) -> torch.Tensor:
    """Cross-entropy of the soft labels, less their own entropy, so that 0 is perfect."""
    width = max(one.length for one in trees)
    ids_BT = torch.full((len(trees), width), encoder.ids[PAD])
    positions_BT = torch.zeros((len(trees), width), dtype=torch.long)
    branch_BT = torch.full((len(trees), width), -1)
    for index, one in enumerate(trees):
        ids_BT[index, : one.length] = torch.tensor(one.ids)
        positions_BT[index, : one.length] = torch.tensor(one.positions)
        branch_BT[index, : one.length] = torch.tensor(one.branch)
    hidden_BTH = model.model(
        input_ids=ids_BT,
        position_ids=positions_BT,
        attention_mask=tree_mask(branch_BT),
        use_cache=False,
    ).last_hidden_state
    at = [(index, place) for index, one in enumerate(trees) for place in one.label_at]
    rows, places = zip(*at, strict=True)
    logprobs = model.lm_head(hidden_BTH[list(rows), list(places)]).log_softmax(-1)
    p_first = torch.tensor([p for one in trees for p in one.p_first])
    labels_N2 = torch.tensor([pair for one in trees for pair in one.labels])
    first, second = logprobs.gather(1, labels_N2).unbind(1)
    entropy = torch.distributions.Bernoulli(p_first).entropy()
    return (-p_first * first - (1 - p_first) * second - entropy).mean()


def tree_mask(branch_BT: torch.Tensor) -> torch.Tensor:
    """(batch, 1, query, key), True where a token may look: back, at common tokens or its branch."""
    width = branch_BT.shape[1]
    causal = torch.ones((width, width), dtype=torch.bool).tril()
    same = branch_BT[:, :, None] == branch_BT[:, None, :]
    common = (branch_BT == 0)[:, None, :]
    return ((same | common) & causal)[:, None]


def new_model(recipe: Recipe, encoder: Encoder) -> Any:
    """A random Llama with untied embeddings."""
    config = LlamaConfig(
        vocab_size=encoder.tokenizer.get_vocab_size(),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=encoder.ids[BOS],
        eos_token_id=encoder.ids[END],
        pad_token_id=encoder.ids[PAD],
    )
    return LlamaForCausalLM(config)


def new_optimizers(recipe: Recipe, model: Any) -> list[Any]:
    """Muon for the matrices inside the layers, AdamW for embeddings, head and norms."""
    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in known]
    return [
        Muon(inner, recipe.learning_rate, recipe.weight_decay),
        torch.optim.AdamW(
            outer, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        ),
    ]


def _schedule(recipe: Recipe, number: int, num_steps: int) -> float:
    if number < recipe.warmup_steps:
        return (number + 1) / recipe.warmup_steps
    done = (number - recipe.warmup_steps) / max(1, num_steps - recipe.warmup_steps)
    return 1 - 0.99 * done
