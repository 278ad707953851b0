"""Where PPO's episodes come from: a sampler that is given weights, then prompts.

`Rollouts` is what the loop knows. `TorchRollouts` samples from the trainer's own module, for tests
and where there is no vLLM; `cai.train.rollouts_vllm` has the one that runs are made with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

import torch

PromptIds = tuple[int, ...]


class Episode(NamedTuple):
    """One sampled answer. `logprobs` are the sampler's own, in nats, one per response token.

    `response_ids` holds the end token where the policy ended its turn (`has_ended`); otherwise the
    length cap cut it.
    """

    prompt_ids: PromptIds
    response_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    has_ended: bool

    @property
    def num_tokens(self) -> int:
        """Prompt and response together."""
        return len(self.prompt_ids) + len(self.response_ids)


class Push(NamedTuple):
    """What the handing over of weights showed: seconds, and the probes' distance in nats."""

    seconds: float
    max_abs_diff: float
    mean_abs_diff: float


class Rollouts(Protocol):
    """A sampler at temperature 1 and top_p 1: what it samples is what the policy is."""

    def push(self, model: Any) -> Push:
        """Sample from `model`'s present weights from now on.

        Raises ReloadError when what was loaded does not say what the trainer says.
        """
        ...

    def sample(
        self, prompts: Sequence[PromptIds], *, max_tokens: int, greedy: bool = False
    ) -> list[Episode]:
        """One episode per prompt, in their order, of at most `max_tokens` response tokens."""
        ...

    def close(self) -> None:
        """Free what is held. Repeated calls do nothing."""
        ...


class TorchRollouts:
    """Samples with torch from the module that is trained: no copy of the weights, no second engine.

    Draws from torch's global generator, so a seeded run repeats.
    """

    def __init__(self, model: Any, *, end_ids: Collection[int], max_rows: int = 64) -> None:
        self._model = model
        self._end_ids = frozenset(end_ids)
        self._max_rows = max_rows

    def push(self, model: Any) -> Push:
        self._model = model
        return Push(0.0, 0.0, 0.0)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def sample(
        self, prompts: Sequence[PromptIds], *, max_tokens: int, greedy: bool = False
    ) -> list[Episode]:
        episodes: list[Episode] = []
        was_training = self._model.training
        self._model.eval()  # in training, a model that checkpoints activations keeps no cache
        for start in range(0, len(prompts), self._max_rows):
            episodes += self._sample(prompts[start : start + self._max_rows], max_tokens, greedy)
        self._model.train(was_training)
        return episodes

    def close(self) -> None:
        return None

    def _sample(self, prompts: Sequence[PromptIds], max_tokens: int, greedy: bool) -> list[Episode]:
        ids, mask = _left_padded(prompts, device=next(self._model.parameters()).device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        ends = torch.tensor(sorted(self._end_ids), device=ids.device)
        is_open = torch.ones(len(prompts), dtype=torch.bool, device=ids.device)
        cache, fed, tokens, logprobs = None, ids, [], []
        for _ in range(max_tokens):
            output = self._model(
                input_ids=fed,
                attention_mask=mask,
                position_ids=positions[:, -fed.shape[1] :],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            spread = output.logits[:, -1].float().log_softmax(-1)
            drawn = spread.argmax(-1) if greedy else torch.multinomial(spread.exp(), 1)[:, 0]
            tokens.append(drawn)
            logprobs.append(spread.gather(1, drawn[:, None])[:, 0])
            is_open &= ~torch.isin(drawn, ends)
            if not is_open.any():
                break
            fed = drawn[:, None]
            mask = torch.cat([mask, torch.ones_like(fed)], dim=1)
            positions = torch.cat([positions, positions[:, -1:] + 1], dim=1)
        table = torch.stack(tokens, 1).tolist(), torch.stack(logprobs, 1).tolist()
        return [
            cut_episode(prompt, row, probs, self._end_ids)
            for prompt, row, probs in zip(prompts, *table, strict=True)
        ]


def cut_episode(
    prompt: PromptIds,
    tokens: Sequence[int],
    logprobs: Sequence[float],
    end_ids: Collection[int],
) -> Episode:
    """An episode up to its first end token, that one included; all of it where there is none."""
    ends = (index + 1 for index, token in enumerate(tokens) if token in end_ids)
    length = next(ends, None)
    kept = tuple(tokens[:length]), tuple(logprobs[:length])
    return Episode(prompt, *kept, has_ended=length is not None)


def _left_padded(prompts: Sequence[PromptIds], *, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, prompt in enumerate(prompts):
        ids[index, width - len(prompt) :] = torch.tensor(prompt)
        mask[index, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
