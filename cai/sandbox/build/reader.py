"""A built model read back from its folder, to be measured: samples answers, scores letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from cai.feedback.prompts import LABELS
from cai.sandbox.tokenizer import END, PAD, Encoder
from cai.types import Conversation

MAX_NEW_TOKENS = 96
SAMPLE_BATCH, SCORE_BATCH = 200, 64


class Reader:
    """An exported model, read back for measuring: samples at temperature 1, scores letters."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.encoder = Encoder(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def sample(self, prompts: Sequence[Conversation]) -> list[str]:
        """One answer to each prompt."""
        answers = [""] * len(prompts)
        ids = [self.encoder.prompt(prompt) for prompt in prompts]
        for batch in _by_length(ids, SAMPLE_BATCH):
            width = max(len(ids[index]) for index in batch)
            ids_BT = torch.full((len(batch), width), self.encoder.ids[PAD])
            mask_BT = torch.zeros_like(ids_BT)
            for row, index in enumerate(batch):
                ids_BT[row, width - len(ids[index]) :] = torch.tensor(ids[index])
                mask_BT[row, width - len(ids[index]) :] = 1
            out_BT = self.model.generate(
                input_ids=ids_BT, attention_mask=mask_BT, max_new_tokens=MAX_NEW_TOKENS
            )
            for row, index in enumerate(batch):
                answers[index] = self._text(out_BT[row, width:].tolist())
        return answers

    def p_first(self, prompts: Sequence[Conversation]) -> list[float]:
        """P(first letter) of each comparison, normalised over the two letters."""
        found = [0.5] * len(prompts)
        ids = [self.encoder.prompt(prompt) for prompt in prompts]
        for batch in _by_length(ids, SCORE_BATCH):
            width = max(len(ids[index]) for index in batch)
            ids_BT = torch.full((len(batch), width), self.encoder.ids[PAD])
            for row, index in enumerate(batch):
                ids_BT[row, : len(ids[index])] = torch.tensor(ids[index])
            last = [len(ids[index]) - 1 for index in batch]
            with torch.no_grad():
                hidden_BTH = self.model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
                logits = self.model.lm_head(hidden_BTH[list(range(len(batch))), last])
            p_B2 = logits[:, list(self.encoder.labels(LABELS))].softmax(-1)
            for row, index in enumerate(batch):
                found[index] = p_B2[row, 0].item()
        return found

    def _text(self, ids: list[int]) -> str:
        end = self.encoder.ids[END]
        kept = ids[: ids.index(end)] if end in ids else ids
        text: str = self.encoder.tokenizer.decode(kept, skip_special_tokens=False)
        return text


def _by_length(ids: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Places of the prompts in batches of like length."""
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    return [order[start : start + size] for start in range(0, len(order), size)]
