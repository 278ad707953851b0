"""A tokenizer and a random model that take a second to make, for tests that need their own."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
TEXTS = (
    "user assistant system the quick brown fox jumps over the lazy dog, and again the fox",
    "How do I boil an egg? Put the egg into boiling water for seven minutes. A or B? No change.",
)


def make_tokenizer(
    template: str | None = CHATML,
    *,
    marks: tuple[str, ...] = MARKS,
    added: tuple[AddedToken | str, ...] = (),
    normalizer: Any = None,
    vocab_size: int = 400,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lossless unless a normalizer says otherwise; `marks` are special tokens."""
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(marks),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_tokens(list(added))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=marks[0], bos_token=marks[1], eos_token=marks[2]
    )
    tokenizer.chat_template = template
    return tokenizer


def write_model(
    folder: Path, *, vocab_size: int = 400, max_context: int = 512, is_tied: bool = False
) -> Path:
    """Save a random Llama and its tokenizer; the same weights on every call."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(vocab_size=vocab_size)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_context,
        tie_word_embeddings=is_tied,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder
