"""TRL's own trainers take the `trl` export as it is, with no column added, renamed or dropped."""

import pytest

from cai.dataset.export import ExportOptions, export_rows
from tests.dataset.rows import row

pytest.importorskip("trl")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # theirs
    pytest.mark.timeout(240),
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<|end|>", "<unk>", "<|user|>", "<|assistant|>"]
    words += [*"abcdefghijklmnopqrstuvwxyz0123456789.? "]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.add_special_tokens(words[:5])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<|end|>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    import datasets

    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("trl")
    out = folder / "trl.jsonl"
    export_rows([row(number) for number in range(8)], "trl", out, options=ExportOptions())
    cache = str(folder / "cache")
    return datasets.load_dataset("json", data_files=str(out), split="train", cache_dir=cache)


def tiny_llama():
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
    )


def settings(config, folder):
    return config(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=4,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )


def test_dpo_trainer_trains_on_it(data, tokenizer, tmp_path):
    from transformers import LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    LlamaForCausalLM(tiny_llama()).save_pretrained(tmp_path / "model")
    trainer = DPOTrainer(
        model=str(tmp_path / "model"),
        args=settings(DPOConfig, tmp_path),
        train_dataset=data,
        processing_class=tokenizer,
    )
    assert trainer.train().global_step == 2


def test_reward_trainer_trains_on_it(data, tokenizer, tmp_path):
    from transformers import LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    config = tiny_llama()
    config.num_labels = 1
    trainer = RewardTrainer(
        model=LlamaForSequenceClassification(config),
        args=settings(RewardConfig, tmp_path),
        train_dataset=data,
        processing_class=tokenizer,
    )
    assert trainer.train().global_step == 2
