"""Soft labels against hard ones, for the reward model and for DPO, on pairs of a noisy judge.

The judge's probabilities are known: of each pair it draws how sure it is, c from 0.5 to 1, and its
verdict is right with probability c. Soft labels are c, hard ones the verdict alone; rows, order,
first weights and steps are the same, so the five seeds give paired differences. What is learned is
measured on clean pairs and prompts of held-out topics.
"""

from __future__ import annotations

import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.models import quiet_environment

quiet_environment()

SEEDS = (1, 2, 3, 4, 5)
NUM_TRAIN, NUM_TEST, NUM_SAMPLED = 800, 500, 300
BETA = 0.3


class Known(NamedTuple):
    """A prompt with two answers, of which one is known to be the better."""

    prompt: Any
    better: str
    worse: str


def main() -> None:
    warnings.simplefilter("ignore")
    measure(SEEDS, NUM_TRAIN, NUM_TEST, NUM_SAMPLED)


def measure(seeds: Sequence[int], num_train: int, num_test: int, num_sampled: int) -> None:
    test = draw_pairs("heldout", num_test, seed=0)
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            started = time.monotonic()
            root = Path(folder) / str(seed)
            data = write_rows(root / "pairs.jsonl", num_train, seed)
            for kind, train in (("reward model", reward_side), ("dpo", dpo_side)):
                soft, hard = (
                    train(root / f"{kind}-{is_soft}", data, seed, is_soft, test, num_sampled)
                    for is_soft in (True, False)
                )
                for name in soft:
                    figures.setdefault(f"{kind}: {name}", []).append((soft[name], hard[name]))
                    print(f"  seed {seed} {kind} {name}: {soft[name]:.4f} against {hard[name]:.4f}")
            print(f"  seed {seed} took {time.monotonic() - started:.0f} s", flush=True)
    for name, pairs in figures.items():
        print(summary(name, pairs))


def summary(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    """Both means, and the mean paired difference with its 95 % interval."""
    from cai.stats.intervals import mean_interval

    lower_is_better = "brier" in name
    gains = [(hard - soft) if lower_is_better else (soft - hard) for soft, hard in pairs]
    soft, hard = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    low, high = mean_interval(gains)
    verdict = "soft wins" if low > 0 else "HARD WINS" if high < 0 else "no difference shown"
    return (
        f"{name} ({'lower' if lower_is_better else 'higher'} is better): soft {soft:.4f}, hard "
        f"{hard:.4f}; gain {sum(gains) / len(gains):+.4f} [{low:+.4f}, {high:+.4f}] over "
        f"{len(pairs)} seeds: {verdict}"
    )


def draw_pairs(split: Any, num: int, *, seed: int) -> list[Known]:
    """Pairs in which one answer has the right core, or both have and it has fewer flaws."""
    from cai.sandbox.answers import base_answer, good_core, ideal_answer
    from cai.sandbox.prompts import draw_prompt

    draw = random.Random(f"soft labels {split} {seed}")
    found: list[Known] = []
    while len(found) < num:
        prompt, request = draw_prompt(draw, split)
        first = ideal_answer(draw, request) if draw.random() < 0.5 else base_answer(draw, request)
        sides = [first, base_answer(draw, request)]
        merits = [(side.core == good_core(request), -len(side.parts)) for side in sides]
        if merits[0] != merits[1]:
            better = sides[merits[1] > merits[0]]
            worse = sides[merits[1] < merits[0]]
            found.append(Known(prompt, better.text, worse.text))
    return found


def write_rows(path: Path, num: int, seed: int) -> Path:
    """The judge's rows: the answer that its verdict prefers as chosen, its certainty as label."""
    import json

    from cai.dataset.preferences import preference_row

    judge = random.Random(f"judge {seed}")
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for pair in draw_pairs("train", num, seed=seed):
            certainty = judge.uniform(0.5, 1.0)
            is_right = judge.random() < certainty
            row = preference_row(
                prompt=pair.prompt,
                chosen=pair.better if is_right else pair.worse,
                rejected=pair.worse if is_right else pair.better,
                p_chosen=certainty,
                source="ai",
            )
            file.write(json.dumps(row) + "\n")
    return path


def settings(root: Path, data: Path, seed: int, is_soft: bool) -> dict[str, Any]:
    return {
        "data": (data,),
        "name": "p",
        "run_dir": root / "run",
        "out": root / "out",
        "seed": seed,
        "soft_labels": is_soft,
        "epochs": 2,
        "num_probes": 4,
    }


def reward_side(
    root: Path, data: Path, seed: int, is_soft: bool, test: Sequence[Known], _: int
) -> dict[str, float]:
    from cai.train.config import RewardConfig
    from cai.train.items import Answered
    from cai.train.reward import run
    from cai.train.scorer import RewardScorer

    run(RewardConfig(**settings(root, data, seed, is_soft)))
    scorer = RewardScorer.load(root / "out")
    better = scorer.score([Answered(pair.prompt, pair.better) for pair in test])
    worse = scorer.score([Answered(pair.prompt, pair.worse) for pair in test])
    return preferences([b - w for b, w in zip(better, worse, strict=True)])


def dpo_side(
    root: Path, data: Path, seed: int, is_soft: bool, test: Sequence[Known], num_sampled: int
) -> dict[str, float]:
    from cai.engine.open import SANDBOX_MODEL
    from cai.train.config import DpoConfig
    from cai.train.dpo import run

    run(DpoConfig(**settings(root, data, seed, is_soft), beta=BETA))
    policy, reference = Policy(root / "out"), Policy(SANDBOX_MODEL)
    gaps = [
        BETA * (a - b) for a, b in zip(policy.log_odds(test), reference.log_odds(test), strict=True)
    ]
    return preferences(gaps) | {"good answers": policy.good_share(num_sampled)}


def preferences(gaps: Sequence[float]) -> dict[str, float]:
    """How often the better answer is preferred, and how far the beliefs are from the truth."""
    import torch

    from cai.stats.calibration import brier

    beliefs = torch.sigmoid(torch.tensor(gaps, dtype=torch.float64)).tolist()
    return {
        "accuracy": sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / len(gaps),
        "brier": brier(beliefs, [1.0] * len(gaps)) or 0.0,
    }


class Policy:
    """A finished policy under transformers."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        from cai.train.base import load_frozen, load_tokenizer
        from cai.train.encode import Encoder, end_ids_of

        self.model = load_frozen(AutoModelForCausalLM, folder)
        self.tokenizer = load_tokenizer(folder)
        self.encoder = Encoder(self.tokenizer, end_ids=end_ids_of(self.model, self.tokenizer))

    def log_odds(self, pairs: Sequence[Known]) -> list[float]:
        """Log π(better) - log π(worse) of each pair, in nats."""
        better = self._logprobs([(pair.prompt, pair.better) for pair in pairs])
        worse = self._logprobs([(pair.prompt, pair.worse) for pair in pairs])
        return [b - w for b, w in zip(better, worse, strict=True)]

    def good_share(self, num: int) -> float:
        """Share of answers to held-out prompts, sampled at temperature 1, that are good."""
        import torch

        from cai.sandbox.oracle import judge
        from cai.sandbox.prompts import prompts

        asked = prompts("heldout", n=num, seed=9)
        torch.manual_seed(0)
        texts = self._in_batches([self.encoder.prompt(one.messages) for one in asked], self._sample)
        labels = [judge(one.messages, t).label for one, t in zip(asked, texts, strict=True)]
        return labels.count("good") / num

    def _logprobs(self, answers: Sequence[tuple[Any, str]]) -> list[float]:
        rows = []
        for prompt, answer in answers:
            before = self.encoder.prompt(prompt)
            rows.append([before, self.encoder.answer(prompt, answer)])
        return self._in_batches(rows, self._sums)

    def _in_batches(self, rows: Sequence[Any], do: Callable[[Sequence[Any]], list[Any]]) -> Any:
        return [one for at in range(0, len(rows), 100) for one in do(rows[at : at + 100])]

    def _sums(self, rows: Sequence[Any]) -> list[float]:
        import torch

        longest = max(len(before) + len(after) for before, after in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        counts = torch.zeros(len(rows), longest - 1)
        for row, (before, after) in enumerate(rows):
            ids[row, : len(before) + len(after)] = torch.tensor(before + after)
            counts[row, len(before) - 1 : len(before) + len(after) - 1] = 1
        with torch.no_grad():  # padding on the right: causal attention needs no mask
            logprobs = self.model(input_ids=ids, use_cache=False).logits[:, :-1].log_softmax(-1)
        found: list[float] = (logprobs.gather(2, ids[:, 1:, None])[..., 0] * counts).sum(1).tolist()
        return found

    def _sample(self, prompts: Sequence[list[int]]) -> list[str]:
        import torch

        longest = max(map(len, prompts))
        pad = self.encoder.pad_id
        ids = torch.tensor([[pad] * (longest - len(one)) + one for one in prompts])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
        with torch.no_grad():
            rows = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=64,
                pad_token_id=pad,
                use_cache=True,
            )
        return [
            self.tokenizer.decode(row[longest:], skip_special_tokens=True).strip() for row in rows
        ]


if __name__ == "__main__":
    main()
