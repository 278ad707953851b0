"""Watches DPO for reward hacking: answers held-out prompts at each validation, says when to stop.

The distance is that of `drift`, the proxy reward is DPO's own margin, and a judge, where there is
one, compares the answers with the reference's greedy ones. Start from `open_watch`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from cai.constitution.store import ConstitutionStore
from cai.engine.open import open_engine
from cai.feedback.judge import Judge
from cai.settings import load_settings
from cai.train.base import LoadedPolicy, is_main_process
from cai.train.config import DpoConfig
from cai.train.drift import AnswerIds, Drift
from cai.train.pairs_data import PairRows
from cai.train.rollouts import Episode, TorchRollouts
from cai.train.split import prompt_key
from cai.train.trainer_common import History, from_main
from cai.train.watch import PREFIX, Observation, Watch, WinRate, distance, judge_win_rate
from cai.types import Conversation

Figures = dict[str, float]


class DpoWatch:
    """One run's watch. What it decides follows from the log, so a resumed run decides alike.

    Of several processes each has one, and all see what the main one saw: they decide alike too.
    """

    def __init__(
        self,
        policy: LoadedPolicy[DpoConfig],
        drift: Drift,
        prompts: Sequence[tuple[Conversation, tuple[int, ...]]],
        judging: Judging | None,
    ) -> None:
        self._config = policy.config
        self._tokenizer = policy.tokenizer
        self._drift = drift
        self._prompts = prompts
        self._sampler = TorchRollouts(policy.model, end_ids=policy.encoder.end_ids)
        self._judging = judging
        self._episodes: list[Episode] = []
        self._rows = _LastRow()
        self._watch = Watch(self._config.watch, self._rows)
        if judging is not None:
            judging.reference_answers = self._texts(self._sample(greedy=True))

    def measure(self, model: Any) -> Figures:
        """Distance of `model` to the reference; its answers to the held-out prompts are kept."""
        self._sampler.push(model)
        self._episodes = self._sample()
        return self._drift(model)

    def observe(self, step: int, figures: Mapping[str, float], history: History) -> Figures:
        """What is logged of a validation beside its `figures`: the curves under `watch/`."""
        self._catch_up(history)
        self._watch.observe(from_main(lambda: self._observation(step, figures)))
        return self._rows.values

    def reason_to_stop(self, history: History) -> str | None:
        """Why the run should stop, by everything logged so far."""
        self._catch_up(history)
        return self._watch.reason

    def best_step(self, history: History) -> int | None:
        """The step whose weights are kept: the judge's best, without verdicts that of lowest loss.

        Only what is within the KL budget counts; where nothing is, the newest does. The margin,
        which is the proxy reward, only grows, so it does not choose.
        """
        self._catch_up(history)
        best = self._watch.best
        if best is not None and best.win_rate is not None:
            return best.step
        logged = [row for row in history if "eval_loss" in row]
        within = [row for row in logged if self._watch.is_within_budget(row[f"{PREFIX}kl"])]
        if within:
            return int(min(within, key=lambda row: (row["eval_loss"], row["step"]))["step"])
        return int(logged[-1]["step"]) if logged else None

    def report(self, history: History) -> dict[str, Any]:
        """What the run was like: fits of the reward against √KL, what is kept, why it stopped."""
        self._catch_up(history)
        return {**self._watch.report(), "best_step": self.best_step(history)}

    def _observation(self, step: int, figures: Mapping[str, float]) -> Observation:
        """A validation as the watch sees it; the judge, where there is one, is asked for it."""
        texts = self._texts(self._episodes)
        logprobs = [logprob for one in self._episodes for logprob in one.logprobs]
        return Observation(
            step=step,
            kl=distance(figures["kl"]),
            proxy_reward=figures["rewards/margins"],
            win_rate=self._judging.win_rate(texts) if self._judging and texts else None,
            lengths=[len(one.response_ids) for one in self._episodes],
            texts=texts,
            entropy=-sum(logprobs) / len(logprobs) if logprobs else None,
        )

    def _catch_up(self, history: History) -> None:
        """See again what was logged before this process began."""
        logged = [row for row in history if f"{PREFIX}kl" in row]
        if self._watch.seen or not logged:
            return
        for row in logged:
            seen = {name.removeprefix(PREFIX): row[name] for name in row if name.startswith(PREFIX)}
            rate = WinRate(seen["win_rate"], int(seen["judge_n"])) if "win_rate" in seen else None
            self._watch.observe(
                Observation(int(row["step"]), seen["kl"], seen["proxy_reward"], win_rate=rate)
            )
        first = {
            name.removeprefix(PREFIX): value
            for name, value in logged[0].items()
            if name.startswith(PREFIX)
        }
        self._watch.load_state({**self._watch.state_dict(), "first": first})

    def _sample(self, *, greedy: bool = False) -> list[Episode]:
        """One answer per prompt, by the same draws each time and without touching training's."""
        if not self._prompts:
            return []
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._config.seed)
            found: list[Episode] = self._sampler.sample(
                [ids for _, ids in self._prompts],
                max_tokens=self._config.max_new_tokens,
                greedy=greedy,
            )
        return found

    def _texts(self, episodes: Sequence[Episode]) -> list[str]:
        return [
            self._tokenizer.decode(list(one.response_ids), skip_special_tokens=True).strip()
            for one in episodes
        ]


class Judging:
    """An AI judge that compares answers with those of the reference."""

    def __init__(
        self, runner: asyncio.Runner, config: DpoConfig, prompts: Sequence[Conversation]
    ) -> None:
        assert config.judge is not None, "made only where there is one"
        assert config.constitution is not None, "the config was checked"
        store = ConstitutionStore(load_settings().constitutions)
        self._constitution = store.get(config.constitution)
        self._runner = runner
        self._prompts = prompts
        self._seed = config.seed
        self._judge = Judge(runner.run(open_engine(config.judge)))
        self.reference_answers: list[str] = []
        try:
            runner.run(self._judge.check())
        except BaseException:
            self.close()
            raise

    def win_rate(self, answers: Sequence[str]) -> WinRate:
        """How often the judge prefers these answers to the reference's."""
        return self._runner.run(
            judge_win_rate(
                self._judge,
                self._prompts,
                answers,
                self.reference_answers,
                self._constitution,
                seed=self._seed,
            )
        )

    def close(self) -> None:
        """End the judge's engine."""
        self._runner.run(self._judge.engine.aclose())


@contextlib.contextmanager
def open_watch(policy: LoadedPolicy[DpoConfig], rows: PairRows) -> Iterator[DpoWatch]:
    """The watch over a run that begins with `policy` as its reference; a judge ends with it.

    Only the main process opens the judge.
    """
    config = policy.config
    sequences = [
        AnswerIds(pair.prompt_ids + answer, len(pair.prompt_ids))
        for pair in rows.validation
        for answer in (pair.chosen_ids, pair.rejected_ids)
    ]
    prompts = _prompts(rows, config)
    with contextlib.ExitStack() as stack:
        judging = None  # comes first: a judge that will not do is told before anything is computed
        if config.judge is not None and prompts and is_main_process():
            # With a factory the runner leaves the thread's own event loop, if any, as it is.
            runner = stack.enter_context(asyncio.Runner(loop_factory=asyncio.new_event_loop))
            judging = Judging(runner, config, [messages for messages, _ in prompts])
            stack.callback(judging.close)
            if config.num_threads is not None:
                torch.set_num_threads(config.num_threads)  # an engine's start may have changed it
        drift = Drift(policy.model, sequences, seed=config.seed)
        yield DpoWatch(policy, drift, prompts, judging)


def _prompts(rows: PairRows, config: DpoConfig) -> list[tuple[Conversation, tuple[int, ...]]]:
    """Held-out prompts, each once, that leave room for an answer."""
    assert config.max_length is not None, "the config is resolved"
    longest = config.max_length - config.max_new_tokens
    found: dict[str, tuple[Conversation, tuple[int, ...]]] = {}
    for row, pair in zip(rows.held_out, rows.validation, strict=True):
        if len(pair.prompt_ids) <= longest:
            found.setdefault(prompt_key(row.prompt), (row.prompt, tuple(pair.prompt_ids)))
    by_digest = sorted(found)  # not by length, as the rows are
    return [found[key] for key in by_digest[: config.num_watched]]


class _LastRow:
    """Takes a row of curves and keeps it: it is logged with the validation it belongs to."""

    def __init__(self) -> None:
        self.values: Figures = {}

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
