"""The model and the prompts that the speed benchmarks share.

A random Llama of some seven million parameters that has no end-of-text token: every request
generates exactly `max_tokens` tokens, so both sides do the same work. Its vocabulary of 4,096 is
learned from the prompts, so that a word is about a token, as in models that are used.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

VOCABULARY = 4096
DTYPE = "float32"
"""What every side computes in; vLLM's own choice for this model is bfloat16, slow on many CPUs."""

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "hh-harmless-test-1200.jsonl.gz"


def make_model(folder: Path, *, is_small: bool = False) -> Path:
    """Write the model with the sandbox's chat template; returns its folder.

    A small one has the size of the bundled model, for what should not wait for its engine.
    """
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128 if is_small else 288,
        intermediate_size=256 if is_small else 768,
        num_hidden_layers=4 if is_small else 5,
        num_attention_heads=2 if is_small else 6,
        num_key_value_heads=2 if is_small else 6,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)  # float32, so that no side computes in another type
    model.generation_config.eos_token_id = None
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer() -> Any:
    """Byte-level BPE over the prompts and our own words, with the sandbox's chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from cai.critique import prompts as critique
    from cai.engine.open import SANDBOX_MODEL
    from cai.feedback import prompts as judging
    from cai.sandbox.prompts import prompts as sandbox_prompts

    sandbox = AutoTokenizer.from_pretrained(SANDBOX_MODEL)
    marks = [str(one) for one in sandbox.all_special_tokens]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=marks,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [critique.CRITIQUE, critique.REVISION, judging.COMPARE_HEAD, judging.COMPARE_TAIL]
    world = [m.content for one in sandbox_prompts("train", n=1000) for m in one.messages]
    backend.train_from_iterator([*first_turns(10_000), *world, *(words * 50)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=sandbox.pad_token)
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = sandbox.chat_template
    return tokenizer


def first_turns(count: int) -> list[str]:
    """First user turns of real conversations, or of sandbox prompts where there are none."""
    if not SHARED.exists():
        from cai.sandbox.prompts import prompts

        return [p.messages[0].content for p in prompts(split="train", n=count, seed=0)]
    with gzip.open(SHARED, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["chosen"] for line in file]
    turns = [text.split("\n\nHuman: ")[1].split("\n\nAssistant:")[0].strip() for text in texts]
    return [turn for turn in turns if turn][:count]


def quiet_environment() -> None:
    """What both sides set before vLLM is imported."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
