"""PPO from top to bottom: weights to the sampler, episodes, rewards, advantages, update, and again.

The maths is in `ppo_maths`, one update in `ppo_update`, when what happens in `ppo_schedule`, what a
run is made of in `ppo_parts`, what a kill leaves behind in `ppo_state`. Start from `run`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal, overload

import torch

from cai.errors import ConfigError, JudgeError
from cai.files import replace_json
from cai.train.base import load_policy, prepare
from cai.train.config import PpoConfig
from cai.train.curves import Curves
from cai.train.encode import Encoded
from cai.train.export import Checkpoint, check_out
from cai.train.memory import told_when_full
from cai.train.plan import OnProgress, Plan, Preview, Progress, make_preview
from cai.train.ppo_figures import Clock, Figures, WatchRow, figures_of, gap_of
from cai.train.ppo_maths import adapted_kl_coef
from cai.train.ppo_parts import (
    Parts,
    encode_prompts,
    load_value,
    open_parts,
    text_of,
)
from cai.train.ppo_rewards import Answer, PpoPrompt, shaped
from cai.train.ppo_schedule import Schedule, minibatch_order, prompts_of, set_rates, steps_of
from cai.train.ppo_state import PpoState, restore_state, save_state
from cai.train.ppo_update import assess, update, with_advantages
from cai.train.session import Session, Trained, open_session, plan_of
from cai.train.sources import load_prompts
from cai.train.state import WATCH, Mode, SavedState
from cai.train.trainer_common import device_of_training
from cai.train.watch import Observation, Watch, WinRate, distance

_MOST_EVALUATED = 256  # prompts of one validation


@overload
def run(
    config: PpoConfig,
    *,
    dry_run: Literal[False] = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint: ...
@overload
def run(
    config: PpoConfig,
    *,
    dry_run: Literal[True],
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Preview: ...
def run(
    config: PpoConfig,
    *,
    dry_run: bool = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint | Preview:
    """Train a policy on its own answers to the prompts of `config.data`, or say what would be done.

    Goes on from the newest checkpoint of an earlier call with the same settings: with the same
    weights, optimizer, counters, order and KL coefficient. Episodes are sampled anew: vLLM on CPU
    takes no seed. Not for a thread with a running event loop. Raises an InputError before training
    starts for anything that will not do, and ReloadError where the sampler does not say what the
    trainer says.
    """
    data = load_prompts(config.data)
    prepared = prepare(config.policy, config)
    if dry_run:
        return _preview(config, prepared, data)
    with open_session(prepared, data, mode=mode, on_progress=progress) as session:
        if session.finished is not None:
            return session.finished
        with told_when_full(prepared.config):
            device = device_of_training()
            policy = load_policy(config.policy, config, device=device, prepared=prepared)
            prompts = encode_prompts(data, policy.encoder, policy.config)
            value = load_value(policy)
            with open_parts(policy, value, prompts) as parts:
                trained = train(parts, session)
        return session.finish(
            trained,
            policy,
            method="ppo",
            prompts=[prompt.messages for prompt in prompts.validation],
            metrics={f"prompts_{name}": n for name, n in prompts.fit.as_dict().items()},
        )


def train(parts: Parts, session: Session) -> Trained:
    """Iterate to the end or to an early stop, from where a killed run was last saved."""
    schedule = Schedule.of(parts.config, len(parts.prompts.train))
    state = begin(parts, session)
    parts.rollouts.push(parts.policy.model)
    told = WatchRow()
    watch = watch_of(parts.config, state, told)
    with closing(Curves(session.folder.folder, after=state.iteration)) as curves:
        while state.iteration < schedule.num_iterations and state.stopped_because is None:
            figures = iterate(parts, state, schedule)
            is_last = state.iteration == schedule.num_iterations
            is_validated = is_last or state.iteration % schedule.eval_every == 0
            if is_validated:
                figures |= validate(parts, state, watch) | told.values
            curves.add(state.iteration, figures)
            parts.trained.accelerator.log(figures, step=state.iteration)  # to `report_to`
            if session.on_progress is not None:
                session.on_progress(Progress(state.iteration, schedule.num_iterations, figures))
            if is_validated or state.iteration % schedule.save_every == 0:
                save_state(session.folder.checkpoints, state, parts.policy, parts.trained)
        report = {**watch.report(), "best_step": state.best}
        replace_json(session.folder.folder / WATCH, report)
    assert state.best is not None, "the last iteration is validated"
    best = SavedState(state.best, session.folder.checkpoints / f"checkpoint-{state.best}")
    return Trained(best, state.evaluations, state.stopped_because)


def begin(parts: Parts, session: Session) -> PpoState:
    """The state to go on from: the newest checkpoint's, put in place, or a new one."""
    start = session.folder.newest()
    if start is not None:
        return restore_state(start.folder, parts.policy, parts.trained)
    torch.manual_seed(parts.config.seed)
    return PpoState(kl_coef=parts.config.kl_coef)


def watch_of(config: PpoConfig, state: PpoState, told: WatchRow) -> Watch:
    """The watch for reward hacking, with what it remembers."""
    watch = Watch(config.watch, told)
    if state.watch is not None:
        watch.load_state(state.watch)
    return watch


def iterate(parts: Parts, state: PpoState, schedule: Schedule) -> Figures:
    """One iteration: its figures, among them the seconds of each phase. Moves `state` on.

    The sampler has the weights of now before it and after it.
    """
    config, policy, clock = parts.config, parts.policy, Clock()
    actor, critic = parts.trained.actor, parts.trained.critic
    set_rates(parts.trained.optimizer, schedule.share_of_peak(state.iteration))

    with clock("rollout"):
        prompts = prompts_of(parts.prompts.train, state.iteration, config)
        answers = sample(parts, prompts)
    with clock("reward"):
        kept, rewards = judged(parts, answers)
        scores = [_shaped(reward, one, config) for reward, one in zip(rewards, kept, strict=True)]
    with clock("assess"):
        batch = assess(
            [one.episode for one in kept],
            actor,
            parts.reference,
            critic,
            max_rows=schedule.rows_at_once,
            accelerator=parts.trained.accelerator,
        )
        batch = with_advantages(batch, scores, config, kl_coef=state.kl_coef)
    with clock("update"):
        stats = update(
            batch,
            parts.trained,
            config,
            order=minibatch_order(config, state.iteration),
            only_value=state.iteration < config.critic_warmup,
        )
    if not math.isfinite(stats.policy_loss + stats.value_loss):
        raise ConfigError(
            f"the loss is not finite in iteration {state.iteration + 1}; lower learning_rate",
            param="learning_rate",
        )
    with clock("push"):
        push = parts.rollouts.push(policy.model)
    figures = {
        **figures_of(batch, rewards),
        **stats._asdict(),
        **gap_of(batch, config),
        "scores": statistics.fmean(scores),
        "kl_coef": state.kl_coef,
        "no_verdict": len(answers) - len(kept),
        "learning_rate": parts.trained.optimizer.param_groups[0]["lr"],
        "push_max_abs_diff": push.max_abs_diff,
        "push_mean_abs_diff": push.mean_abs_diff,
        **clock.seconds,
    }
    _move_on(state, config, len(kept), figures["kl_answer"])
    return {**figures, "episodes": state.episodes, "optimizer_steps": state.optimizer_steps}


def validate(parts: Parts, state: PpoState, watch: Watch) -> Figures:
    """Reward, KL, length and win rate on held-out prompts under the weights of now.

    The watch decides whether they are the best so far, and whether to stop; `patience` may stop
    the run too. Where there is none within the KL budget yet, the newest count as the best.
    """
    answers = sample(parts, parts.prompts.validation[:_MOST_EVALUATED])
    kept, rewards = judged(parts, answers)
    batch = assess(
        [one.episode for one in kept],
        parts.trained.actor,
        parts.reference,
        parts.trained.critic,
        max_rows=parts.config.micro_batch_size or 1,
        accelerator=parts.trained.accelerator,
    )
    figures = {f"eval_{name}": value for name, value in figures_of(batch, rewards).items()}
    verdict = watch.observe(
        Observation(
            step=state.iteration,
            kl=distance(figures["eval_kl_answer"]),
            proxy_reward=figures["eval_reward"],
            win_rate=win_rate_of(parts, answers),
            lengths=[len(one.episode.response_ids) for one in answers],
            texts=[one.text for one in answers],
            entropy=figures["eval_entropy"],
        )
    )
    if verdict.is_best or watch.best is None:
        state.best = state.iteration
    state.watch = watch.state_dict()
    measured = {name: value for name, value in figures.items() if math.isfinite(value)}
    state.evaluations.append({"step": state.iteration, **measured})
    impatient = out_of_patience(state, parts.config.patience)
    state.stopped_because = verdict.reason if verdict.stop else impatient
    return figures


def out_of_patience(state: PpoState, patience: int | None) -> str | None:
    """Why to stop when the last `patience` validations gave no new best; None to go on."""
    assert state.best is not None, "called after a validation"
    since = sum(one["step"] > state.best for one in state.evaluations)
    if patience is None or since < patience:
        return None
    return f"no new best in {since} validations; the best weights are those of step {state.best}"


def win_rate_of(parts: Parts, answers: Sequence[Answer]) -> WinRate | None:
    """How often the judge, where there is one, prefers these answers to the reference's greedy."""
    if parts.judge is None:
        return None
    found = parts.judge.score(answers)
    wins = [one for one in found if one is not None]
    return WinRate(statistics.fmean(wins) if wins else math.nan, len(wins), len(found) - len(wins))


def sample(parts: Parts, prompts: Sequence[PpoPrompt]) -> list[Answer]:
    """One answer to each prompt, at temperature 1."""
    episodes = parts.rollouts.sample(
        [prompt.ids for prompt in prompts], max_tokens=parts.config.max_new_tokens
    )
    return [
        Answer(prompt, episode, text_of(episode, parts.policy.tokenizer))
        for prompt, episode in zip(prompts, episodes, strict=True)
    ]


def judged(parts: Parts, answers: Sequence[Answer]) -> tuple[list[Answer], list[float]]:
    """The answers that have a reward, and their rewards. Raises JudgeError when none has."""
    found = parts.rewards.score(answers)
    pairs = [(one, r) for one, r in zip(answers, found, strict=True) if r is not None]
    if not pairs:
        raise JudgeError(f"none of {len(answers)} answers got a verdict; look at the judge")
    return [one for one, _ in pairs], [reward for _, reward in pairs]


def _shaped(reward: float, answer: Answer, config: PpoConfig) -> float:
    return shaped(
        reward,
        has_ended=answer.episode.has_ended,
        clip=config.reward_clip,
        missing_eos_penalty=config.missing_eos_penalty,
    )


def _move_on(state: PpoState, config: PpoConfig, num_episodes: int, kl: float) -> None:
    state.iteration += 1
    state.episodes += num_episodes
    state.optimizer_steps += config.ppo_epochs * math.ceil(num_episodes / config.batch_size)
    if config.kl_target is not None:
        state.kl_coef = adapted_kl_coef(
            state.kl_coef,
            kl,
            target=config.kl_target,
            num_episodes=num_episodes,
            horizon=config.kl_horizon,
        )


def _preview(config: PpoConfig, prepared: Any, data: Any) -> Preview:
    check_out(config.out, name=config.name, replace=True)
    policy = load_policy(config.policy, config, prepared=prepared)
    prompts = encode_prompts(data, policy.encoder, policy.config)
    load_value(policy)
    plan: Plan = plan_of(policy, len(prompts.train), len(prompts.validation))
    schedule = Schedule.of(policy.config, len(prompts.train))
    steps = steps_of(policy.config)
    plan = replace(
        plan,
        num_steps=schedule.num_iterations * steps,
        steps_per_epoch=round(len(prompts.train) / policy.config.rollout_size * steps),
        eval_every=schedule.eval_every * steps,
        save_every=schedule.save_every * steps,
    )
    rows = [Encoded(list(one.ids), [False] * len(one.ids)) for one in prompts.train]
    return make_preview(
        policy.tokenizer, rows, prompts.fit, plan, policy.config, left_out=data.left_out
    )
