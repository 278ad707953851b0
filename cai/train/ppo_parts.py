"""What a PPO run is made of, from its config: four networks, the sampler, the rewards, the prompts.

Everything that can be refused is refused here, before the first episode. Start from `open_parts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from transformers import AutoModelForCausalLM

from cai.constitution.store import ConstitutionStore
from cai.engine.open import open_engine
from cai.errors import ConfigError, DataError, UnsupportedError
from cai.feedback.judge import Judge
from cai.files import canonical_json, digest_json, read_jsonl, replace_text
from cai.policy.manifest import Probe
from cai.settings import load_settings
from cai.train.adapters import score_head
from cai.train.base import (
    LoadedPolicy,
    check_same_tokenizer,
    load_frozen,
    load_reward_model,
)
from cai.train.config import PpoConfig
from cai.train.encode import Encoder, Fit
from cai.train.export import probe_set
from cai.train.facts import locate
from cai.train.ppo_layout import lay_out
from cai.train.ppo_models import Actor, Critic, without_dropout
from cai.train.ppo_rewards import (
    JudgeRewards,
    ModelRewards,
    PpoPrompt,
    RemoteRewards,
    Rewards,
)
from cai.train.ppo_update import Trained
from cai.train.remote_reward import RemoteReward
from cai.train.rollouts import Episode, Rollouts, TorchRollouts
from cai.train.rows import Asked, Loaded
from cai.train.scorer import RewardScorer
from cai.train.split import split_by_prompt
from cai.train.state import BASELINES, TRACKED
from cai.train.trainer_common import check_trackers, device_of_training

logger = logging.getLogger(__name__)

_PUSH_PROBES = 8


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is answered in training and in validation, no prompt in both, and how they fitted."""

    train: list[PpoPrompt]
    validation: list[PpoPrompt]
    fit: Fit


@dataclass(frozen=True, slots=True)
class Parts:
    """An open run. `reference` is frozen; `trained` has the policy and the value model.

    `judge` is the AI judge, where there is one: the source of rewards itself, or beside it.
    """

    config: PpoConfig
    policy: LoadedPolicy[PpoConfig]
    reference: Actor
    trained: Trained
    rollouts: Rollouts
    rewards: Rewards
    judge: JudgeRewards | None
    prompts: Prompts


def load_value(policy: LoadedPolicy[PpoConfig]) -> Any:
    """The classifier that the value model begins as.

    That is the reward model where it is a folder; else the policy's body with a head of zeros.
    Raises ConfigError for a reward model of another tokenizer or a shorter context.
    """
    config = policy.config
    ref = config.policy if config.reward is None or is_url(config.reward) else config.reward
    value = load_reward_model(ref, config, device=device_of_training())
    check_same_tokenizer(policy.tokenizer, value.tokenizer, what=f"the reward model {ref}")
    assert config.max_length is not None, "the config is resolved"
    context = value.facts.context
    if context is not None and context < config.max_length:
        raise ConfigError(
            f"the reward model {ref} reads {context} tokens and an episode may have "
            f"{config.max_length}; set max_length to {context}",
            param="max_length",
        )
    if ref != config.reward:
        torch.nn.init.zeros_(score_head(value.model).weight)
    elif value.facts.manifest is not None and value.facts.manifest.kind != "reward":
        raise ConfigError(f"{ref}: a policy, not a reward model; make one with cai train reward")
    return value.model


def encode_prompts(loaded: Loaded[Asked], encoder: Encoder, config: PpoConfig) -> Prompts:
    """Prompts as token ids that leave room for an answer; longer ones are left out and counted.

    Raises DataError when fewer than half fit, and when there is only one prompt.
    """
    assert config.max_length is not None, "the config is resolved"
    fit = Fit(config.max_length - config.max_new_tokens)
    if fit.max_length < 1:
        raise ConfigError(
            f"max_new_tokens {config.max_new_tokens} leaves no room for a prompt within "
            f"{config.max_length} tokens; lower it",
            param="max_new_tokens",
        )
    split = split_by_prompt(loaded.rows, config.validation_share, config.seed)
    parts = [[_encoded(row, encoder, fit) for row in rows] for rows in split]
    fit.check()
    train, validation = ([one for one in rows if one is not None] for rows in parts)
    if not train or not validation:
        raise DataError(f"no prompt is shorter than {fit.max_length} tokens; lower max_new_tokens")
    return Prompts(train, validation, fit)


@contextlib.contextmanager
def open_parts(policy: LoadedPolicy[PpoConfig], value: Any, prompts: Prompts) -> Iterator[Parts]:
    """Start the sampler and the source of rewards; close both in the end."""
    config = policy.config
    accelerator = _accelerator(config)
    actor = Actor(without_dropout(policy.model))
    reference = Actor(_frozen(policy, config))
    critic = Critic(without_dropout(value))
    if config.gradient_checkpointing:
        for model in (policy.model, value):
            model.gradient_checkpointing_enable()
            if config.lora is not None:
                model.enable_input_require_grads()  # else nothing before an adapter asks for any
    optimizer = _optimizer(actor, critic, config)
    actor, critic, optimizer = accelerator.prepare(actor, critic, optimizer)
    trained = Trained(actor, critic, optimizer, accelerator)
    # With a factory the runner leaves the thread's own event loop, if it has one, as it is.
    running = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    with running as runner, contextlib.ExitStack() as stack:
        stack.callback(_finish_trackers, accelerator)
        accelerator.init_trackers(config.name)
        rewards = _open_rewards(config, runner, policy)
        if rewards is not None:
            stack.callback(rewards.close)
        baselines: dict[str, str] = {}
        judge = _open_judge(config, runner, baselines)
        if judge is not None:
            stack.callback(judge.close)
        rollouts = _open_rollouts(config, runner, policy, actor, prompts)
        stack.callback(rollouts.close)
        if judge is not None:
            asked = [*prompts.validation, *(prompts.train if rewards is None else ())]
            baselines |= _baselines(policy, rollouts, asked)
        source = rewards or judge
        assert source is not None, "the config was checked"
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)  # an engine's start may have changed it
        yield Parts(config, policy, reference, trained, rollouts, source, judge, prompts)


def is_url(reward: str) -> bool:
    """Whether a `reward` is an address and not a folder."""
    return reward.startswith(("http://", "https://"))


def _frozen(policy: LoadedPolicy[PpoConfig], config: PpoConfig) -> Any:
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return load_frozen(AutoModelForCausalLM, policy.folder, dtype=dtype, device=policy.model.device)


def _accelerator(config: PpoConfig) -> Accelerator:
    is_bf16 = config.precision == "bf16"
    installed = {str(one) for one in get_available_trackers()}
    trackers = check_trackers(config.report_to, known=LOGGER_TYPE_TO_CLASS, installed=installed)
    accelerator = Accelerator(
        mixed_precision="bf16" if is_bf16 else "no",
        cpu=not torch.cuda.is_available(),
        log_with=trackers or None,
        project_dir=config.run_dir / TRACKED if trackers else None,
    )
    if accelerator.num_processes > 1:
        raise UnsupportedError(
            f"ppo runs in one process, not {accelerator.num_processes}: start it without "
            "accelerate launch, or train with cai train dpo"
        )
    return accelerator


def _finish_trackers(accelerator: Accelerator) -> None:
    for tracker in accelerator.trackers:
        tracker.finish()


def _optimizer(actor: Actor, critic: Critic, config: PpoConfig) -> torch.optim.Optimizer:
    """One AdamW with a rate for each network; `peak` is what the schedule scales."""
    groups = [
        {"params": [p for p in network.parameters() if p.requires_grad], "lr": rate, "peak": rate}
        for network, rate in (
            (actor, config.learning_rate),
            (critic, config.value_learning_rate),
        )
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


# On a CPU, vLLM's worker has a process of its own, and both sides wait by spinning for a second:
# the update has begun by then and needs the cores. In one process nobody spins. By its name, for
# the class itself would not reach the engine's process.
_IN_ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def _open_rollouts(
    config: PpoConfig,
    runner: asyncio.Runner,
    policy: LoadedPolicy[PpoConfig],
    actor: Actor,
    prompts: Prompts,
) -> Rollouts:
    if config.rollouts == "torch":
        return TorchRollouts(policy.model, end_ids=policy.encoder.end_ids)
    from cai.train.rollouts_vllm import VllmRollouts

    texts = probe_set(
        policy.model,
        policy.tokenizer,
        policy.encoder,
        [prompt.messages for prompt in prompts.validation],
        num=_PUSH_PROBES,
        max_length=config.max_length,
        seed=config.seed,
    )
    options: dict[str, Any] = {
        "dtype": "bfloat16" if config.precision == "bf16" else "float32",
        "max_model_len": config.max_length,
        "max_num_seqs": min(config.rollout_size, 256),
    }
    if torch.cuda.is_available():
        options["gpu_memory_utilization"] = 0.35  # the four networks need the rest
    elif not any(name.endswith("parallel_size") for name in config.engine_args):
        options["distributed_executor_backend"] = _IN_ONE_PROCESS
    return VllmRollouts.start(
        runner,
        policy.folder,
        options={**options, **config.engine_args},
        probing=lambda: probed(actor, texts),
        tolerance=config.push_tolerance,
        end_ids=policy.encoder.end_ids,
        spare=config.run_dir / "weights",
    )


@torch.no_grad()  # type: ignore[untyped-decorator]
def probed(actor: Actor, texts: Sequence[Probe]) -> tuple[Probe, ...]:
    """The same texts with the log-probs that the policy gives them now."""
    episodes = [Episode(one.prompt_ids, one.continuation_ids, (), True) for one in texts]
    device = next(actor.parameters()).device
    found = actor(lay_out(episodes, device=device)).logprobs_N
    lengths = [len(one.continuation_ids) for one in texts]
    return tuple(
        one.model_copy(update={"logprobs": tuple(logprobs.tolist())})
        for one, logprobs in zip(texts, found.split(lengths), strict=True)
    )


def _open_rewards(
    config: PpoConfig, runner: asyncio.Runner, policy: LoadedPolicy[PpoConfig]
) -> Rewards | None:
    """The reward model, here or behind its address; None where the judge is to give the reward."""
    if config.reward is None:
        return None
    if is_url(config.reward):
        return RemoteRewards(runner, RemoteReward(config.reward), policy.tokenizer)
    folder = locate(config.reward, load_settings().home)
    return ModelRewards(RewardScorer.load(folder, device=device_of_training()))


def _open_judge(
    config: PpoConfig, runner: asyncio.Runner, baselines: Mapping[str, str]
) -> JudgeRewards | None:
    """The judge, once it has answered a trivial question; `baselines` may be filled in later."""
    if config.judge is None:
        return None
    assert config.constitution is not None, "the config was checked"
    constitution = ConstitutionStore(load_settings().constitutions).get(config.constitution)
    judge = Judge(runner.run(open_engine(config.judge)))
    rewards = JudgeRewards(runner, judge, constitution, baselines, seed=config.seed)
    try:
        runner.run(judge.check())
    except BaseException:
        rewards.close()
        raise
    return rewards


def _baselines(
    policy: LoadedPolicy[PpoConfig], rollouts: Rollouts, prompts: Sequence[PpoPrompt]
) -> dict[str, str]:
    """The reference's greedy answers, by prompt id; made once and kept in the run directory.

    The sampler still has the weights that training began from, in a run that goes on too. Answers
    of another policy or another `max_new_tokens` do not count.
    """
    config = policy.config
    path = config.run_dir / BASELINES
    source = digest_json([policy.digest, config.max_new_tokens])
    known = {row["id"]: row["answer"] for row in read_jsonl(path) if row.get("source") == source}
    owed = [prompt for prompt in prompts if prompt.id not in known]
    if not owed:
        return known
    made = rollouts.sample(
        [prompt.ids for prompt in owed], max_tokens=config.max_new_tokens, greedy=True
    )
    for prompt, episode in zip(owed, made, strict=True):
        known[prompt.id] = text_of(episode, policy.tokenizer)
    rows = ({"id": key, "source": source, "answer": answer} for key, answer in known.items())
    replace_text(path, "".join(canonical_json(row) + "\n" for row in rows))
    return known


def text_of(episode: Episode, tokenizer: Any) -> str:
    """An answer's words, without control tokens."""
    return str(tokenizer.decode(episode.response_ids, skip_special_tokens=True))


def _encoded(row: Asked, encoder: Encoder, fit: Fit) -> PpoPrompt | None:
    ids = tuple(encoder.prompt(row.prompt))
    if len(ids) > fit.max_length:
        fit.num_left_out += 1
        return None
    fit.num_whole += 1
    return PpoPrompt(row.id, row.prompt, ids)
