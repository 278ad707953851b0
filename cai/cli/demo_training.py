"""The demo's second half: datasets, SFT on revisions, a reward model, DPO, and PPO beside it.

Each policy is loaded into the engine that is running and answers prompts on topics that no training
touched. Start from `Training(...).run`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.demo_loop import shower, write_prompts
from cai.cli.output import progress, say
from cai.cli.train import TRAINERS, TrainingBar
from cai.constitution.store import ConstitutionStore
from cai.errors import CaiError
from cai.evaluate.demo_report import Pairing
from cai.evaluate.report import Outcome, merged, policy_rates
from cai.feedback.config import RankingConfig
from cai.pipeline import run
from cai.pipeline_config import GenerateConfig
from cai.policy.reload import Reloaded, reload
from cai.sandbox.examine import MAX_TOKENS, Examined, examine, examine_judge, kl_from
from cai.sandbox.principles import texts_of
from cai.sandbox.prompts import KINDS, PromptKind, SandboxPrompt, prompts
from cai.stats.intervals import rate_of
from cai.train.config import CONFIGS, load_config
from cai.types import ChatPrompt, Sampling

if TYPE_CHECKING:
    from cai.engine.embedded import EmbeddedEngine
    from cai.train.export import Checkpoint

NUM_BYSTANDERS = 8
"""Requests that are in flight while a policy is loaded."""

DRAFTS: Mapping[str, Any] = {"samples": 4, "revisions": 1, "temperature": 0.85}
"""Answers to compare, nearly as the policy gives them: rarer faults are among them, few slips."""
RANKING = RankingConfig(pairs="all", min_margin=0.3)
"""Labels nearer to a tie teach nothing: the principle drawn has no say in those two answers."""
MIXES: Mapping[str, Mapping[PromptKind, float]] = {
    "harmless": {"harmful": 0.18, "jailbreak": 0.18, "benign": 0.1},
    "helpful-honest": {"benign": 0.5, "unclear": 0.3, "false_claim": 0.2},
}
"""Prompts of the kinds that a constitution has something to say on, as shares of what is asked for.

Other constitutions get all kinds. `harmless` needs fewer: one harmful prompt makes four pairs.
"""
RECIPE: Mapping[str, Mapping[str, Any]] = {
    "sft": {"epochs": 3},
    "reward": {"epochs": 4},
    "dpo": {"epochs": 3, "beta": 0.3, "learning_rate": 1.5e-4},
    "ppo": {
        **{"epochs": 2.4, "ppo_epochs": 2, "max_new_tokens": 64},
        **{"learning_rate": 2.2e-4, "value_learning_rate": 1e-3},
    },
}
"""What differs from the trainers' defaults: a thousand pairs on a model of a million parameters."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked: prompts a dataset, prompts of each kind, judged pairs, answers for KL."""

    dataset: int
    each: int
    judged: int
    kl: int


@dataclass(slots=True)
class Trained:
    """What the second half came to."""

    manifests: list[Mapping[str, Any]] = field(default_factory=list)
    answers: dict[str, list[Examined]] = field(default_factory=dict)
    kl: dict[str, float] = field(default_factory=dict)
    judge: dict[str, Any] = field(default_factory=dict)
    reward_model: dict[str, Any] = field(default_factory=dict)
    reloads: list[Reloaded] = field(default_factory=list)
    num_failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """Its part of `report.json`."""
        return {
            "dataset": merged(self.manifests),
            "judge": self.judge,
            "reward_model": self.reward_model,
            "policies": {
                name: policy_rates(
                    [Outcome(one.prompt.request.kind, (one.verdict.label,)) for one in answers],
                    kl=self.kl.get(name),
                )
                for name, answers in self.answers.items()
            },
            "reload": {
                "seconds": round(max(one.seconds for one in self.reloads), 3),
                "failed_requests": self.num_failed,
                "probe_max_abs_diff": max(one.probes.max_abs_diff for one in self.reloads),
            },
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
        }

    def pairings(self) -> list[Pairing]:
        """Prompts that the base policy fails, one of each kind, with every policy's answer."""
        found: dict[str, Pairing] = {}
        for index, base in enumerate(self.answers["base"]):
            kind = base.prompt.request.kind
            if kind not in found and base.verdict.label != "good":
                found[kind] = Pairing(
                    [message.as_dict() for message in base.prompt.messages],
                    [
                        (name, answers[index].text, answers[index].verdict.label)
                        for name, answers in self.answers.items()
                    ],
                )
        return list(found.values())


class Training:
    """The stages in order, on one engine. Start from `run`."""

    def __init__(
        self,
        runner: asyncio.Runner,
        engine: EmbeddedEngine,
        store: ConstitutionStore,
        folder: Path,
        sizes: Sizes,
        *,
        seed: int,
    ) -> None:
        self._runner = runner
        self._engine = engine
        self._store = store
        self._folder = folder
        self._sizes = sizes
        self._seed = seed
        self._base = engine.loaded
        self._found = Trained()
        self._asked = [
            one for kind in KINDS for one in prompts("heldout", kind, sizes.each, seed + 1)
        ]

    def run(self, constitutions: Sequence[str], address: str) -> Trained:
        """Every stage; the engine is back on its first policy at the end."""
        with self._stage("examine"):
            self._examine("base")
            self._examine_judge(constitutions)
        with self._stage("datasets"):
            runs = [self._generate(ref, address) for ref in constitutions]
        sft = self._train("sft", "sandbox", runs)
        reward = self._train("reward", str(sft.folder), runs)
        dpo = self._train("dpo", str(sft.folder), runs)
        ppo = self._train("ppo", str(sft.folder), runs, reward=str(reward.folder))
        with self._stage("examine"):
            self._examine_reward_model(reward.folder)
            for checkpoint in (sft, dpo, ppo):
                self._load(checkpoint.folder)
                self._examine(checkpoint.manifest.method)
            self._runner.run(self._engine.swap_back(self._base))
            self._measure_kl()
        return self._found

    def _generate(self, ref: str, address: str) -> Path:
        """A judged run of one constitution over prompts on topics that training may touch."""
        folder = self._folder / ref.partition("@")[0]
        asked = _prompts_for(ref, self._sizes.dataset, self._seed)
        write_prompts(folder.with_suffix(".jsonl"), asked)
        config = GenerateConfig(
            prompts=folder.with_suffix(".jsonl"),
            out=folder,
            constitution=ref,
            engine=address,
            max_tokens=MAX_TOKENS,
            ranking=RANKING,
            seed=self._seed,
            **DRAFTS,
        )
        with progress(f"dataset, {ref}", len(asked)) as bar:
            summary = self._runner.run(
                run(
                    config,
                    self._store.get(ref),
                    mode="fresh",
                    engine=self._engine,
                    on_progress=shower(bar),
                )
            )
        self._found.manifests.append(summary.manifest)
        return folder

    def _train(self, kind: str, policy: str, runs: Sequence[Path], **given: Any) -> Checkpoint:
        config = load_config(
            CONFIGS[kind],
            policy=policy,
            data=runs,
            name=f"demo-{kind}",
            run_dir=self._folder / "training" / kind,
            out=self._folder / "policies" / kind,
            seed=self._seed,
            **RECIPE[kind],
            **given,
        )
        train = TRAINERS.get(kind)
        with self._stage(kind), ExitStack() as stack:
            checkpoint: Checkpoint = train(
                config, mode="fresh", progress=TrainingBar(config, stack)
            )
        return checkpoint

    def _load(self, folder: Path) -> None:
        """Reload the engine while others ask it; none of them may fail."""
        reloaded, failed = self._runner.run(_reload_under_load(self._engine, folder, self._asked))
        self._found.reloads.append(reloaded)
        self._found.num_failed += failed

    def _examine(self, name: str) -> None:
        say(f"asking {name} {len(self._asked)} prompts on topics that no training touched")
        self._found.answers[name] = self._runner.run(examine(self._engine, self._asked))

    def _examine_judge(self, constitutions: Sequence[str]) -> None:
        texts = texts_of([self._store.get(ref) for ref in constitutions])
        figures = self._runner.run(examine_judge(self._engine, texts, num_pairs=self._sizes.judged))
        bias = [one["measured"] for one in figures.pop("position_bias").values()]
        self._found.judge = {**figures, "position_bias": round(sum(bias) / len(bias), 4)}

    def _examine_reward_model(self, folder: Path) -> None:
        """Pairs of the base policy's answers to one prompt, of which just one is good."""
        from cai.train.items import Answered
        from cai.train.scorer import RewardScorer

        again = self._runner.run(examine(self._engine, self._asked))
        pairs = [
            (one, two) if one.verdict.label == "good" else (two, one)
            for one, two in zip(self._found.answers["base"], again, strict=True)
            if (one.verdict.label == "good") != (two.verdict.label == "good")
        ]
        scorer = RewardScorer.load(folder)
        good, bad = (
            scorer.score([Answered(one.prompt.messages, one.text) for one in side])
            for side in zip(*pairs, strict=True)
        )
        right = sum(g > b for g, b in zip(good, bad, strict=True))
        if rate := rate_of(right, len(pairs)):
            self._found.reward_model = {"accuracy": rate.as_dict()}

    def _measure_kl(self) -> None:
        """By the policies' own answers, asked of the base policy."""
        for name, answers in self._found.answers.items():
            some = answers[:: max(1, len(answers) // self._sizes.kl)]
            self._found.kl[name] = self._runner.run(
                kl_from(self._engine, some, self._engine.renderer.render)
            )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        spent = self._found.seconds
        spent[name] = spent.get(name, 0.0) + time.monotonic() - started


async def _reload_under_load(
    engine: EmbeddedEngine, folder: Path, asked: Sequence[SandboxPrompt]
) -> tuple[Reloaded, int]:
    """The reload, and how many of the requests made meanwhile failed."""
    done = asyncio.Event()

    async def ask(number: int) -> int:
        failed = 0
        while not done.is_set():
            try:
                await engine.generate(ChatPrompt(asked[number].messages), Sampling(max_tokens=32))
            except CaiError:
                failed += 1
            number = (number + NUM_BYSTANDERS) % len(asked)
        return failed

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(number)) for number in range(NUM_BYSTANDERS)]
        try:
            reloaded = await reload(engine, folder)
        finally:
            done.set()
    return reloaded, sum(task.result() for task in asking)


def _prompts_for(ref: str, num: int, seed: int) -> list[SandboxPrompt]:
    """Prompts on topics that training may touch; those of each constitution are its own."""
    name = ref.partition("@")[0]
    seed += 10 + sum(map(ord, ref))
    if name not in MIXES:
        return prompts("train", None, num, seed)
    shares = MIXES[name].items()
    found = [
        one for kind, share in shares for one in prompts("train", kind, round(share * num), seed)
    ]
    random.Random(seed).shuffle(found)
    return found
