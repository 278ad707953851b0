"""Tokens/s and achieved FLOP/s of DPO, reward-model and PPO updates of a 1B Llama on one GPU.

The trainers' own update code on random weights and token ids of one length, so nothing is padded.
What FLOPs are counted is in `flops`. On a processor `--smoke` tries it out on a small model.

    python -m benchmarks.gpu_updates [--smoke] [--micro-batch-size N] [--no-checkpointing]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.flops import Measured, Shape, peak_of
from benchmarks.models import quiet_environment

quiet_environment()

ANSWER_SHARE = 0.5  # of a sequence
NUM_WARM_UP = 2
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32_000,
}
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 1024,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is. Lengths in tokens; `batch_size` in pairs or episodes per step."""

    model: dict[str, int]
    length: int
    batch_size: int
    num_steps: int
    minibatches: int = 2


BIG = Scale(LARGE, length=512, batch_size=32, num_steps=8)
TINY = Scale(SMALL, length=64, batch_size=4, num_steps=2)


def main(arguments: Sequence[str] = ()) -> None:
    import torch

    options = _options(arguments)
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not options.smoke:
        print("skipped: torch sees no GPU; --smoke tries it out on the processor")
        return
    name = torch.cuda.get_device_name() if has_gpu else "processor"
    peak = peak_of(name) if has_gpu and not options.smoke else None
    scale = TINY if options.smoke else BIG
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), scale, options)
        size = f"{bench.num_parameters / 1e6:,.0f}M parameters"
        print(f"{name}, torch {torch.__version__}, {size}, sequences of {scale.length} tokens")
        for found in (*bench.reward(), *bench.dpo(), *bench.ppo()):
            print(found.line(peak), flush=True)
        if has_gpu:
            print(f"most memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


class Bench:
    """A random model in a folder, and the three updates of it."""

    def __init__(self, folder: Path, scale: Scale, options: Any) -> None:
        self.folder = folder
        self.scale = scale
        self.options = options
        self.model = _write_model(folder / "model", scale)
        self.draw = random.Random(0)
        self.num_prompt = round(scale.length * (1 - ANSWER_SHARE))
        self.num_answer = scale.length - self.num_prompt
        self.num_parameters = 0
        self.shape = self._shape()

    def reward(self) -> Iterator[Measured]:
        from cai.train import reward
        from cai.train.base import load_reward_model
        from cai.train.config import RewardConfig

        policy = load_reward_model(str(self.model), self._config(RewardConfig))
        trainer = self._trainer(reward._trainer, policy)
        lengths = [self.scale.length] * (2 * self.scale.batch_size)
        yield self._steps("reward model, step", trainer, lengths, num_head=0)
        _free(trainer, policy)

    def dpo(self) -> Iterator[Measured]:
        from cai.train import dpo
        from cai.train.base import load_policy
        from cai.train.config import DpoConfig

        policy = load_policy(str(self.model), self._config(DpoConfig))
        trainer = self._trainer(dpo._trainer, policy, None)  # nothing is validated or watched
        lengths = [self.scale.length] * (2 * self.scale.batch_size)
        num_head = len(lengths) * self.num_answer
        yield self._steps("DPO, step", trainer, lengths, num_head=num_head)
        yield self._reference(trainer)
        _free(trainer, policy)

    def ppo(self) -> Iterator[Measured]:
        """An iteration without its rollouts: the passes before the update, and the update."""
        from cai.train.ppo_update import assess, update, with_advantages

        config, actor, reference, trained = self._networks()
        episodes, rows = self._episodes(), config.micro_batch_size
        lengths = [self.scale.length] * len(episodes)
        num_head = self.num_answer * len(episodes)
        policy = self.shape.forward(lengths, num_head=num_head)
        value = self.shape.forward(lengths, num_head=0)
        scores = [self.draw.gauss(0, 1) for _ in episodes]
        times: dict[str, list[float]] = {"assess": [], "update": []}
        for number in range(NUM_WARM_UP + self.scale.num_steps // 2):
            with _timed() as spent:
                batch = assess(
                    episodes,
                    actor,
                    reference,
                    trained.critic,
                    max_rows=rows,
                    accelerator=trained.accelerator,
                )
            times["assess"].append(spent[0])
            batch = with_advantages(batch, scores, config, kl_coef=config.kl_coef)
            with _timed() as spent:
                update(batch, trained, config, order=random.Random(number), only_value=False)
            times["update"].append(spent[0])
        seconds = {name: statistics.median(spent[NUM_WARM_UP:]) for name, spent in times.items()}
        num_tokens, epochs = sum(lengths), config.ppo_epochs
        yield Measured(
            "PPO, policy + ref + value", num_tokens, 2 * policy + value, seconds["assess"]
        )
        flops = epochs * 3 * (policy + value)
        yield Measured("PPO, update", epochs * num_tokens, flops, seconds["update"])

    def _steps(self, name: str, trainer: Any, lengths: list[int], *, num_head: int) -> Measured:
        """Optimizer steps of a trainer of TRL, from its own loop, collator and optimizer."""
        ends = _watch_steps(trainer)
        trainer.train()
        seconds = (ends[-1] - ends[NUM_WARM_UP - 1]) / (len(ends) - NUM_WARM_UP)
        flops = 3 * self.shape.forward(lengths, num_head=num_head)
        return Measured(name, sum(lengths), flops, seconds)

    def _reference(self, trainer: Any) -> Measured:
        """What DPO computes once of each row before it begins."""
        num_pairs = trainer.args.per_device_train_batch_size
        rows = [trainer.train_dataset[row] for row in range(num_pairs)]
        inputs = trainer._prepare_inputs(trainer.data_collator(rows))
        times = []
        for _ in range(NUM_WARM_UP + self.scale.num_steps):
            with _timed() as spent:
                trainer.compute_ref_log_probs(trainer.model, inputs)
            times.append(spent[0])
        lengths = [self.scale.length] * (2 * num_pairs)
        flops = self.shape.forward(lengths, num_head=len(lengths) * self.num_answer)
        seconds = statistics.median(times[NUM_WARM_UP:])
        return Measured("DPO, reference, once a row", sum(lengths), flops, seconds)

    def _trainer(self, make: Any, policy: Any, *more: Any) -> Any:
        """The trainer that a module's `run` makes, on random pairs."""
        from cai.train.encode import Fit
        from cai.train.pairs_data import PairRows
        from cai.train.session import plan_of

        num_train = self.scale.batch_size * (NUM_WARM_UP + self.scale.num_steps)
        pairs = [self._pair() for _ in range(num_train + 4)]
        rows = PairRows(pairs[:num_train], pairs[num_train:], [], Fit(self.scale.length))
        plan = plan_of(policy, num_train, 4)
        trainer = make(policy, plan, rows, *more, self.folder / "checkpoints")
        trainer.lengths = rows.lengths
        return trainer

    def _networks(self) -> Any:
        from cai.train import ppo_parts
        from cai.train.base import load_policy, load_reward_model
        from cai.train.config import PpoConfig
        from cai.train.ppo_models import Actor, Critic, without_dropout
        from cai.train.ppo_update import Trained

        given = self._config(
            PpoConfig,
            reward=str(self.model),
            rollouts="torch",
            max_new_tokens=self.num_answer,
            rollout_size=self.scale.batch_size * self.scale.minibatches,
        )
        device = ppo_parts.device_of_training()
        policy = load_policy(str(self.model), given, device=device)
        value = load_reward_model(str(self.model), given, device=device).model
        config = policy.config
        reference = Actor(ppo_parts._frozen(policy, config))
        actor, critic = Actor(without_dropout(policy.model)), Critic(without_dropout(value))
        if config.gradient_checkpointing:
            policy.model.gradient_checkpointing_enable()
            value.gradient_checkpointing_enable()
        optimizer = ppo_parts._optimizer(actor, critic, config)
        accelerator = ppo_parts._accelerator(config)
        trained = Trained(*accelerator.prepare(actor, critic, optimizer), accelerator)
        return config, trained.actor, reference, trained

    def _config(self, kind: Any, **given: Any) -> Any:
        if self.options.micro_batch_size is not None:
            given["micro_batch_size"] = self.options.micro_batch_size
        if self.options.no_checkpointing:
            given["gradient_checkpointing"] = False
        return kind(
            policy=str(self.model),
            data=(self.folder / "none.jsonl",),
            name="bench",
            run_dir=self.folder / "run",
            out=self.folder / "out",
            epochs=1,
            batch_size=self.scale.batch_size,
            max_length=self.scale.length,
            **given,
        )

    def _pair(self) -> Any:
        from cai.train.pairs_data import EncodedPair

        answers = self._ids(self.num_answer), self._ids(self.num_answer)
        return EncodedPair(self._ids(self.num_prompt), *answers, p_chosen=0.9)

    def _episodes(self) -> list[Any]:
        from cai.train.rollouts import Episode

        return [
            Episode(
                tuple(self._ids(self.num_prompt)),
                tuple(self._ids(self.num_answer)),
                (0.0,) * self.num_answer,
                True,
            )
            for _ in range(self.scale.batch_size * self.scale.minibatches)
        ]

    def _ids(self, count: int) -> list[int]:
        return self.draw.choices(range(100, self.scale.model["vocab_size"]), k=count)

    def _shape(self) -> Shape:
        """From the weights as they were written."""
        from cai.engine.weights import tensors_of

        sizes = {n: math.prod(tensor.shape) for n, tensor in tensors_of(self.model).items()}
        self.num_parameters = sum(sizes.values())
        outer = sum(n for name, n in sizes.items() if "embed_tokens" in name or "lm_head" in name)
        model = self.scale.model
        return Shape(
            body=self.num_parameters - outer,
            hidden=model["hidden_size"],
            vocabulary=model["vocab_size"],
            layers=model["num_hidden_layers"],
            width=model["hidden_size"],
        )


def _write_model(folder: Path, scale: Scale) -> Path:
    """Random weights, with the sandbox's tokenizer and template for the ids that mark turns."""
    import torch
    import transformers
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from cai.engine.open import SANDBOX_MODEL

    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(SANDBOX_MODEL)
    torch.manual_seed(0)
    config = LlamaConfig(
        **scale.model,
        max_position_embeddings=scale.length,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _watch_steps(trainer: Any) -> list[float]:
    """Times at which optimizer steps end, filled in as the trainer runs."""
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    ends: list[float] = []

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            _synchronize()
            ends.append(time.perf_counter())

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Ends())
    return ends


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Seconds of a block, in the list's only place afterwards."""
    spent = [0.0]
    _synchronize()
    started = time.perf_counter()
    yield spent
    _synchronize()
    spent[0] = time.perf_counter() - started


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _free(trainer: Any, policy: Any) -> None:
    """Let the weights and the optimizer's state go before the next."""
    import gc

    import torch

    trainer.model = trainer.model_wrapped = trainer.optimizer = None
    trainer.accelerator.free_memory()
    policy.model.to("meta")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a 5M model in float32, anywhere")
    parser.add_argument("--micro-batch-size", type=int, help="rows at once; default: the recipe's")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
