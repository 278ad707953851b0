"""A side: PPO by TRL 1.12.0, the last release that had it, with its defaults but for what is equal.

Runs in an environment of its own. Speaks the same line protocol as `benchmarks.sides`, which it
cannot import from there.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


def main(model: str, reward_model: str, prompts: str, settings: str) -> None:
    wanted = json.loads(settings)
    torch.set_num_threads(wanted["num_threads"])
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    with open(prompts, encoding="utf-8") as file:
        rows = [{"input_ids": json.loads(line)} for line in file]

    def classifier() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(reward_model, num_labels=1)

    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            logging_strategy="no",
            gradient_checkpointing=False,
            num_sample_generations=0,
            per_device_train_batch_size=wanted["batch_size"],
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            total_episodes=wanted["batch_size"] * wanted["iterations"],
            response_length=wanted["response_tokens"],
            num_ppo_epochs=wanted["epochs"],
            temperature=1.0,
            learning_rate=wanted["learning_rate"],
            max_grad_norm=1.0,
        ),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(model),
        ref_model=AutoModelForCausalLM.from_pretrained(model),
        reward_model=classifier(),
        value_model=classifier(),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[: wanted["batch_size"]]),
    )
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        episodes = wanted["batch_size"] * wanted["iterations"]
        print(json.dumps({"episodes_per_s": episodes / seconds, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
