"""How far a policy has moved from its reference: KL(π‖π_ref) at places inside held-out answers.

The reference's distributions are kept once, so that its weights need not be. Start from
`Drift(reference, sequences)`, then call it with the policy at each evaluation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_MAX_NUMBERS = 2**27  # kept of the reference: 512 MiB in float32
_MAX_LOGITS = 2**26  # of one batch


class AnswerIds(NamedTuple):
    """A sequence of token ids, and where its answer begins."""

    ids: list[int]
    answer_start: int


class Drift:
    """Estimates KL to the reference without sampling.

    At each place the sum over the vocabulary is exact; the mean over places is an estimate, since
    their contexts are held-out answers and not the policy's own. `kl` is the mean per token times
    the answers' mean length: nats per answer, as if the policy wrote answers such as these.
    """

    def __init__(
        self,
        reference: Any,
        sequences: Sequence[AnswerIds],
        *,
        max_sequences: int = 256,
        max_places: int = 4096,
        seed: int = 0,
    ) -> None:
        """Reads `reference` as it is now; the sequences are drawn by `seed`."""
        draw = random.Random(seed)
        self._sequences = draw.sample(sequences, min(len(sequences), max_sequences))
        lengths = [len(one.ids) - one.answer_start for one in self._sequences]
        places = [
            (row, one.answer_start - 1 + step)
            for row, (one, length) in enumerate(zip(self._sequences, lengths, strict=True))
            for step in range(length)
        ]
        vocabulary = int(reference.config.get_text_config().vocab_size)
        num_places = min(len(places), max_places, max(1, _MAX_NUMBERS // vocabulary))
        self._places: dict[int, list[int]] = {}
        for row, place in sorted(draw.sample(places, num_places)):
            self._places.setdefault(row, []).append(place)
        self._mean_length = sum(lengths) / max(1, len(lengths))
        self._batch_size = max(1, _MAX_LOGITS // (vocabulary * self._longest))
        self._reference = [logprobs_PV.cpu() for logprobs_PV in self._logprobs(reference)]

    def __call__(self, policy: Any) -> dict[str, float]:
        """`kl` in nats per answer and `kl_per_token` of the policy as it is now."""
        total, num_places = 0.0, 0
        for logprobs_PV, kept_PV in zip(self._logprobs(policy), self._reference, strict=True):
            reference_PV = kept_PV.to(logprobs_PV.device)
            total += exact_kl(logprobs_PV, reference_PV).sum().item()
            num_places += len(kept_PV)
        per_token = total / max(1, num_places)
        return {"kl": per_token * self._mean_length, "kl_per_token": per_token}

    @property
    def _longest(self) -> int:
        return max((len(one.ids) for one in self._sequences), default=1)

    def _logprobs(self, model: Any) -> Iterator[Tensor]:
        """Log-probs of the next token at the kept places of each sequence, in float32."""
        was_training = model.training
        model.eval()
        device = next(model.parameters()).device
        rows = sorted(self._places)
        for start in range(0, len(rows), self._batch_size):
            batch = rows[start : start + self._batch_size]
            ids_BL, mask_BL = _padded([self._sequences[row].ids for row in batch])
            with torch.no_grad():
                logits_BLV = model(
                    input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), use_cache=False
                ).logits
            for row, logits_LV in zip(batch, logits_BLV, strict=True):
                yield torch.log_softmax(logits_LV[self._places[row]].float(), dim=-1)
        model.train(was_training)


def exact_kl(policy_PV: Tensor, reference_PV: Tensor) -> Tensor:
    """KL(π‖π_ref) in nats at each place, from log-probs over the whole vocabulary.

    A token that the policy rules out (log-prob -∞) adds nothing.
    """
    terms_PV = policy_PV.exp() * (policy_PV - reference_PV)
    return terms_PV.masked_fill(policy_PV.isneginf(), 0.0).sum(dim=-1)


def _padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids padded on the right with 0, and the mask that hides the padding."""
    longest = max(map(len, sequences))
    ids_BL = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask_BL = torch.zeros_like(ids_BL)
    for row, ids in enumerate(sequences):
        ids_BL[row, : len(ids)] = torch.tensor(ids)
        mask_BL[row, : len(ids)] = 1
    return ids_BL, mask_BL
