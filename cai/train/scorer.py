"""A reward model that scores answers: for the server, for PPO, and for whoever has its folder.

Knows a finished folder; nothing of training or HTTP. Start from `RewardScorer.load(folder)`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoModelForSequenceClassification

from cai.engine.template_check import check_template
from cai.errors import CaiError, ContextLengthError, EngineError, InputError, PolicyError
from cai.policy.manifest import PolicyManifest, verify
from cai.train.base import load_frozen, load_tokenizer
from cai.train.buckets import buckets
from cai.train.encode import Encoder, end_ids_of
from cai.train.items import Answered, Item, RenderedText, Scored

TOLERANCE = 1e-3
"""Largest difference, per 1 + |reward|, between a probe's reward and what is computed here."""

_TOLERANCE_BF16 = 5e-2


class RewardScorer:
    """Scores token ids, answers to conversations, and rendered texts. Safe to use from threads.

    A reward has a meaning only beside another to the same prompt: the difference is the log-odds
    that the first answer is preferred.
    """

    def __init__(
        self, model: Any, tokenizer: Any, manifest: PolicyManifest, *, batch_tokens: int = 16_384
    ) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, end_ids=end_ids_of(model, tokenizer))
        self._manifest = manifest
        self._batch_tokens = batch_tokens
        self._context = int(model.config.get_text_config().max_position_embeddings)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._lock = threading.Lock()
        # One thread: calls wait for each other here and not in asyncio's shared pool.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reward")

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None, batch_tokens: int = 16_384) -> Self:
        """The reward model in `folder`, once its files and its rewards are those of its manifest.

        `device` is torch's name for it; None takes a GPU where there is one. `batch_tokens` bounds
        one forward pass, padding included. Raises PolicyError when anything differs.
        """
        manifest = verify(folder)
        if manifest.kind != "reward":
            raise PolicyError(
                f"{folder}: a policy trained by {manifest.method}, not a reward model; make one "
                "with cai train reward"
            )
        check_template(folder)
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = load_frozen(
            AutoModelForSequenceClassification,
            folder,
            dtype=torch.float32 if where.type == "cpu" else "auto",
            device=where,
        )
        scorer = cls(model, load_tokenizer(folder), manifest, batch_tokens=batch_tokens)
        scorer._replay(folder)
        return scorer

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._manifest.name

    @property
    def digest(self) -> str:
        """The policy's digest, over every file that decides the rewards."""
        return self._manifest.digest

    @property
    def manifest(self) -> PolicyManifest:
        """What the folder vouches for."""
        return self._manifest

    def encode(self, items: Sequence[Item]) -> list[list[int]]:
        """Token ids of the items, as `score` reads them. Raises InputError naming the item."""
        return [self._encode(index, item) for index, item in enumerate(items)]

    def score(self, items: Sequence[Item], *, stop: threading.Event | None = None) -> list[float]:
        """One reward per item, in order, in float32. Items of like length share a batch.

        Raises InputError for an item that cannot be read, EngineError for a reward that is not
        finite, and when `stop` was set before the last batch.
        """
        return self._score_ids(self.encode(items), stop)

    async def score_async(self, items: Sequence[Item]) -> Scored:
        """The same in the scorer's own thread. Cancelling stops it before its next batch."""
        stop = threading.Event()

        def work() -> Scored:
            encoded = self.encode(items)
            return Scored(self._score_ids(encoded, stop), sum(map(len, encoded)))

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """Let the thread end after what it is doing. Calls after it fail."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _score_ids(
        self, encoded: Sequence[Sequence[int]], stop: threading.Event | None
    ) -> list[float]:
        rewards = [math.nan] * len(encoded)
        with self._lock:
            for rows in self._batches(encoded):
                if stop is not None and stop.is_set():
                    raise EngineError("the scoring was stopped")
                for row, reward in zip(
                    rows, self._forward([encoded[i] for i in rows]), strict=True
                ):
                    rewards[row] = reward
        for index, reward in enumerate(rewards):
            if not math.isfinite(reward):
                raise EngineError(f"the reward of item {index} is {reward}")
        return rewards

    def _batches(self, encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Rows by length, as many together as `batch_tokens` holds, and apart where padding costs.

        A pass over short and long rows together computes mostly padding.
        """
        for rows in self._within_bound(encoded):
            lengths = [len(encoded[row]) for row in rows]
            groups = buckets(lengths, max_rows=len(rows), device_type=self._device.type)
            yield from ([rows[index] for index in group] for group in groups[::-1])

    def _within_bound(self, encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        batch: list[int] = []
        for row in sorted(range(len(encoded)), key=lambda i: (-len(encoded[i]), i)):
            if batch and (len(batch) + 1) * len(encoded[batch[0]]) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _forward(self, batch: Sequence[Sequence[int]]) -> list[float]:
        padding = self._model.config.get_text_config().pad_token_id
        ids_BL = torch.full((len(batch), max(map(len, batch))), padding, dtype=torch.long)
        mask_BL = torch.zeros_like(ids_BL)
        for row, ids in enumerate(batch):
            ids_BL[row, : len(ids)] = torch.tensor(ids)
            mask_BL[row, : len(ids)] = 1
        with torch.inference_mode():
            output = self._model(
                input_ids=ids_BL.to(self._device),
                attention_mask=mask_BL.to(self._device),
                use_cache=False,
            )
        rewards: list[float] = output.logits.squeeze(-1).float().tolist()
        return rewards

    def _encode(self, index: int, item: Item) -> list[int]:
        try:
            if isinstance(item, Answered):
                ids = self._encoder.prompt(item.prompt) + self._encoder.answer(
                    item.prompt, item.answer
                )
            elif isinstance(item, RenderedText):
                ids = self._encode_text(item)
            else:
                ids = list(item)
        except CaiError as exc:
            raise InputError(f"item {index}: {exc}") from exc
        if not ids or min(ids) < 0 or max(ids) >= self._vocabulary:
            raise InputError(
                f"item {index}: token ids should be from 0 to {self._vocabulary - 1}, at least one"
            )
        if len(ids) > self._context:
            raise ContextLengthError(
                f"item {index} has {len(ids)} tokens; the reward model reads {self._context}"
            )
        return ids

    def _encode_text(self, item: RenderedText) -> list[int]:
        text, prompt = self._without_frame(item.text), item.prompt
        if prompt is None:
            return [*self._control(text), self._encoder.end_id]
        prompt = self._without_padding(prompt)
        if not text.startswith(prompt):
            raise InputError("the query does not begin with its prompt")
        answer = self._encoder.renderer.encode_content(text[len(prompt) :])
        return [*self._control(prompt), *answer, self._encoder.end_id]

    def _control(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _without_frame(self, text: str) -> str:
        """The text without padding around it and without the end token that closes the answer."""
        bare = self._without_padding(text)
        return bare.removesuffix(self._tokenizer.convert_ids_to_tokens(self._encoder.end_id))

    def _without_padding(self, text: str) -> str:
        padding = self._tokenizer.pad_token
        if not padding or padding == self._tokenizer.convert_ids_to_tokens(self._encoder.end_id):
            return text
        start, end = 0, len(text)  # moved instead of cut: a megabyte of padding stays cheap
        while text.startswith(padding, start):
            start += len(padding)
        while text.endswith(padding, start, end):
            end -= len(padding)
        return text[start:end]

    def _replay(self, folder: Path) -> None:
        """Raise PolicyError when the probes' rewards are not those that the trainer computed."""
        probes = self._manifest.reward_probes
        found = self.score([probe.ids for probe in probes])
        is_coarse = next(self._model.parameters()).dtype != torch.float32
        limit = _TOLERANCE_BF16 if is_coarse else TOLERANCE
        for index, (probe, reward) in enumerate(zip(probes, found, strict=True)):
            if abs(reward - probe.reward) > limit * (1 + abs(probe.reward)):
                raise PolicyError(
                    f"{folder}: probe {index} scores {reward:.4f}, and {probe.reward:.4f} when it "
                    "was trained; train it anew, or find what changed in the libraries"
                )
