"""An arena that is played: policies answer prompts, a judge compares, where it is worth asking.

Engines are opened one at a time. A verdict that the judge refuses is no game and is counted; the
same answer twice is a tie that needs no judge. Start from `play_arena`.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from cai.constitution.schema import Constitution
from cai.dataset.prompts import PromptRow
from cai.engine.base import Engine
from cai.engine.open import pinned
from cai.errors import ConfigError, ContextLengthError, JudgeError
from cai.evaluate.arena_data import Game
from cai.evaluate.arena_schedule import Match, Schedule, ScheduleConfig
from cai.evaluate.judge_eval import check_principles
from cai.evaluate.policy_eval import Opening, Progress, judge_ref, naming, opened
from cai.evaluate.policy_plan import address_of, check_policy
from cai.evaluate.results import JudgeRef, PolicyRef
from cai.feedback.asking import gather
from cai.feedback.config import JudgeConfig
from cai.feedback.judge import Judge
from cai.types import ChatPrompt, Conversation, Message, Sampling

_TIES = frozenset({"identical", "tie"})
Texts = list[str | None]


@dataclass(frozen=True)
class ArenaPlan:
    """Who meets on what, before which judge."""

    policies: tuple[str, ...]
    prompts: Sequence[PromptRow]
    judge: str
    constitution: Constitution
    principles: tuple[str, ...] = ()
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    temperature: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    concurrency: int = 64

    def check(self) -> None:
        """Raise ConfigError or NotFoundError for what cannot be played, or not be rated."""
        if len(set(self.policies)) < 2 or len(set(self.policies)) < len(self.policies):
            raise ConfigError(
                f"an arena needs two policies or more, each named once; given: "
                f"{', '.join(self.policies) or 'none'}",
                param="policies",
            )
        for ref in self.policies:
            check_policy(ref)
        check_principles(self.constitution, self.principles)
        self._check_budget()

    @cached_property
    def prompt_ids(self) -> Sequence[str | int]:
        """The prompts' own ids, where each has one that is no other's; else those made of them."""
        own = [row.source_id for row in self.prompts]
        named = [id for id in own if id is not None]
        if len(named) == len({str(id) for id in named}) == len(own):
            return named
        return [row.input_id for row in self.prompts]

    def _check_budget(self) -> None:
        """Nobody is asked where no two policies could have enough games."""
        num_policies, num_prompts = len(self.policies), len(self.prompts)
        budget = self.schedule.budget(math.comb(num_policies, 2) * num_prompts)
        least_policies, least_games = self.schedule.fewest(num_prompts)
        if num_policies < least_policies or budget < least_games:
            raise ConfigError(
                f"{num_policies} policies on {num_prompts} prompts have at most {budget} "
                f"comparisons here, and none could have the {self.schedule.min_games} games from "
                "which it is rated; take more prompts, raise --share, or lower --min-games",
                param="prompts",
            )


@dataclass(frozen=True)
class Played:
    """The games, the verdicts that were none by reason, and why it stopped."""

    policies: tuple[PolicyRef, ...]
    judge: JudgeRef
    games: Sequence[Game]
    no_verdict: Mapping[str, int]
    stopped: str
    num_asked: int
    num_round_robin: int
    answers: Mapping[str, Texts]

    def lines(self, plan: ArenaPlan) -> list[dict[str, Any]]:
        """A line for each answer: who gave it, to what, under the id that games call the prompt."""
        return [
            {
                "policy": policy,
                "prompt": plan.prompt_ids[at],
                "messages": [one.as_dict() for one in _conversed(row, text)],
                "answers": [] if text is None else [text],
            }
            for policy, texts in self.answers.items()
            for at, (row, text) in enumerate(zip(plan.prompts, texts, strict=True))
        ]

    def comparisons(self) -> dict[str, Any]:
        """How many were made, and of how many."""
        return {
            "asked": self.num_asked,
            "round_robin": self.num_round_robin,
            "share": round(self.num_asked / self.num_round_robin, 6),
            "stopped": self.stopped,
            **({"no_verdict": dict(self.no_verdict)} if self.no_verdict else {}),
        }


async def play_arena(
    plan: ArenaPlan, *, open_at: Opening = opened, progress: Progress | None = None
) -> Played:
    """Let every policy answer, then compare by schedule. Raises what `ArenaPlan.check` raises.

    Engine errors say which policy; those of the judge pass through.
    """
    plan.check()
    progress = progress or Progress()
    refs: list[PolicyRef] = []
    answers: dict[str, Texts] = {}
    for ref in plan.policies:
        progress.begin(f"asking {ref}", len(plan.prompts))
        with naming(ref):
            async with open_at(await pinned(address_of(ref))) as engine:
                answers[ref] = await answer_prompts(engine, plan, on_answer=progress.done)
                identity = engine.identity()
        refs.append(PolicyRef(ref=ref, digest=identity.digest, model=identity.model))
    schedule = Schedule(
        len(plan.policies), _shared(plan.policies, answers), plan.schedule, seed=plan.seed
    )
    if not schedule.num_round_robin:
        raise ConfigError("no prompt was answered by two policies: see their context lengths")
    async with open_at(await pinned(plan.judge)) as engine:
        progress.begin("comparing", schedule.budget)
        games, no_verdict = await _compare_all(engine, plan, answers, schedule, progress.done)
        judge = judge_ref(plan.judge, engine, plan.constitution)
    return Played(
        policies=tuple(refs),
        judge=judge,
        games=games,
        no_verdict=dict(sorted(no_verdict.items())),
        stopped=schedule.stopped or "",
        num_asked=schedule.num_asked,
        num_round_robin=schedule.num_round_robin,
        answers=answers,
    )


async def answer_prompts(
    engine: Engine, plan: ArenaPlan, *, on_answer: Callable[[], None] | None = None
) -> Texts:
    """One answer to each prompt, in order; None where the prompt does not fit the context."""
    slots = asyncio.Semaphore(plan.concurrency)

    async def one(index: int, row: PromptRow) -> str | None:
        sampling = Sampling(
            max_tokens=plan.max_tokens, temperature=plan.temperature, seed=plan.seed + index
        )
        async with slots:
            try:
                return (await engine.generate(ChatPrompt(row.messages), sampling)).text.strip()
            except ContextLengthError:
                return None
            finally:
                if on_answer is not None:
                    on_answer()

    return await gather([one(index, row) for index, row in enumerate(plan.prompts)])


async def _compare_all(
    engine: Engine,
    plan: ArenaPlan,
    answers: Mapping[str, Texts],
    schedule: Schedule,
    on_done: Callable[[], None],
) -> tuple[list[Game], Counter[str]]:
    judge = Judge(engine, config=JudgeConfig())
    games: list[Game] = []
    no_verdict: Counter[str] = Counter()
    while matches := schedule.next():
        for match, result in zip(
            matches, await gather([_compare(judge, plan, answers, m) for m in matches]), strict=True
        ):
            on_done()
            if isinstance(result, str):
                no_verdict[result] += 1
                continue
            schedule.record(match.i, match.j, result)
            games.append(_game(plan, answers, match, result))
    return games, no_verdict


async def _compare(
    judge: Judge, plan: ArenaPlan, answers: Mapping[str, Texts], match: Match
) -> float | str:
    """P(the first answer is better), or the reason why there is no verdict."""
    row = plan.prompts[match.prompt]
    first, second = _texts(plan, answers, match)
    try:
        label = await judge.compare(
            row.messages,
            first,
            second,
            plan.constitution,
            row=row.input_id,
            seed=plan.seed,
            principles=plan.principles or None,
        )
    except JudgeError as exc:
        return 0.5 if exc.reason in _TIES else exc.reason
    return label.p_a


def _game(plan: ArenaPlan, answers: Mapping[str, Texts], match: Match, result: float) -> Game:
    first, second = _texts(plan, answers, match)
    return Game(
        prompt_id=plan.prompt_ids[match.prompt],
        a=plan.policies[match.i],
        b=plan.policies[match.j],
        p_a=result,
        len_a=len(first),
        len_b=len(second),
        source="judge",
    )


def _conversed(row: PromptRow, answer: str | None) -> Conversation:
    """A prompt with its answer, where there is one."""
    return row.messages if answer is None else (*row.messages, Message("assistant", answer))


def _texts(plan: ArenaPlan, answers: Mapping[str, Texts], match: Match) -> tuple[str, str]:
    first = answers[plan.policies[match.i]][match.prompt]
    second = answers[plan.policies[match.j]][match.prompt]
    assert first is not None, "only answered prompts are scheduled"
    assert second is not None, "only answered prompts are scheduled"
    return first, second


def _shared(
    policies: Sequence[str], answers: Mapping[str, Texts]
) -> dict[tuple[int, int], list[int]]:
    """For each two policies, the prompts that both answered."""
    return {
        (i, j): [
            at
            for at, both in enumerate(zip(answers[policies[i]], answers[policies[j]], strict=True))
            if None not in both
        ]
        for i, j in combinations(range(len(policies)), 2)
    }
