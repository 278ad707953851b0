"""What would change if a constitution were replaced by another: labels, and revisions.

Judges the same pairs under both and asks what they share only once. A flip is a pair whose
preferred answer changes; it is put down to the principles without whose change it would not be.
Start from `preview`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cai.constitution.diff import ConstitutionDiff, compare
from cai.constitution.schema import Constitution
from cai.critique.loop import revise
from cai.critique.records import Transcript
from cai.engine.base import Engine
from cai.errors import CaiError, JudgeError
from cai.evaluate.impact_causes import Causes
from cai.evaluate.impact_pairs import JudgedPair
from cai.evaluate.remembering import RememberingEngine
from cai.feedback.asking import gather
from cai.feedback.config import JudgeConfig
from cai.feedback.judge import Judge
from cai.feedback.records import PairLabel
from cai.stats.intervals import Interval, Rate, mean_interval, rate_of
from cai.types import Conversation, EngineIdentity, Sampling

MAX_EXAMPLES = 3

OnDone = Callable[[], None]


@dataclass(frozen=True, slots=True)
class PairImpact:
    """One pair under both constitutions; a reason stands where there is no label."""

    pair: JudgedPair
    old: PairLabel | None
    new: PairLabel | None
    why_not: tuple[str | None, str | None] = (None, None)
    causes: tuple[str, ...] = ()

    @property
    def is_flip(self) -> bool:
        """Whether each constitution prefers another answer."""
        return self.old is not None and self.new is not None and self.old.chosen != self.new.chosen

    @property
    def shift(self) -> float | None:
        """How much less the new one likes what the old one chose: P before, minus P after."""
        if self.old is None or self.new is None:
            return None
        now = self.new.p_a if self.old.chosen == "a" else 1 - self.new.p_a
        return self.old.p_chosen - now


class RevisionImpact(NamedTuple):
    """One prompt answered by the same draft, then revised under each constitution."""

    prompt: Conversation
    old: Transcript
    new: Transcript


@dataclass(frozen=True, slots=True)
class Impact:
    """The whole preview. `num_asked` and `num_two_runs` count questions, two to a verdict."""

    old: Constitution
    new: Constitution
    judge: EngineIdentity
    diff: ConstitutionDiff
    pairs: tuple[PairImpact, ...]
    revisions: tuple[RevisionImpact, ...]
    num_asked: int
    num_two_runs: int

    @property
    def flips(self) -> tuple[PairImpact, ...]:
        """The pairs whose preferred answer changes."""
        return tuple([one for one in self.pairs if one.is_flip])

    @property
    def num_judged(self) -> int:
        """Pairs with a label under both."""
        return sum(one.shift is not None for one in self.pairs)

    @property
    def flip_rate(self) -> Rate | None:
        """Share of the judged pairs that flip, with its interval."""
        return rate_of(len(self.flips), self.num_judged)

    @property
    def net(self) -> tuple[float, Interval | None]:
        """Mean shift away from what the old one chose, with Student's interval."""
        shifts = [one.shift for one in self.pairs if one.shift is not None]
        mean = sum(shifts) / len(shifts) if shifts else 0.0
        return mean, mean_interval(shifts) if len(shifts) > 1 else None

    def flips_by_cause(self) -> dict[str, float]:
        """Flips put down to each changed principle; one with several causes counts in parts."""
        counts = {one.id: 0.0 for one in self.diff.principles}
        for one in self.flips:
            for cause in one.causes:
                counts[cause] = counts.get(cause, 0.0) + 1 / len(one.causes)
        return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))

    def examples(self, cause: str) -> list[PairImpact]:
        """The flips of one cause that shift the most."""
        found = [one for one in self.flips if cause in one.causes]
        return sorted(found, key=lambda one: -(one.shift or 0.0))[:MAX_EXAMPLES]

    def accuracy(self) -> dict[str, Rate]:
        """How often each agrees with people, where the pairs know."""
        known = [one for one in self.pairs if one.pair.is_known and one.shift is not None]
        sides = {
            "old": [one.old for one in known],
            "new": [one.new for one in known],
        }
        rates = {
            name: rate_of(
                sum(label is not None and label.chosen == "a" for label in labels), len(labels)
            )
            for name, labels in sides.items()
        }
        return {name: rate for name, rate in rates.items() if rate is not None}

    def no_verdict(self) -> dict[str, dict[str, int]]:
        """Pairs without a label under each, by reason."""
        counts = [Counter(one.why_not[at] for one in self.pairs) for at in (0, 1)]
        return {
            name: {reason: number for reason, number in count.items() if reason is not None}
            for name, count in zip(("old", "new"), counts, strict=True)
        }


async def preview(
    old: Constitution,
    new: Constitution,
    engine: Engine,
    pairs: Sequence[JudgedPair],
    *,
    config: JudgeConfig | None = None,
    seed: int = 0,
    revise_prompts: Sequence[tuple[str, Conversation]] = (),
    reviser: Engine | None = None,
    revisions: int = 1,
    on_done: OnDone | None = None,
) -> Impact:
    """Judge `pairs` under both, and answer and revise `revise_prompts` (id, prompt) under both.

    `engine` judges; `reviser` answers, and is the judge unless given. `on_done` is called once for
    each pair and each prompt. A pair without a verdict is told with its reason; engine errors pass
    through.
    """
    config = config or JudgeConfig()
    asking = RememberingEngine(engine)
    diff = compare(old, new)
    causes = Causes(old, new, diff, config)
    judges = Judge(asking, config=config), Judge(asking, config=config)
    try:
        impacts = await gather(
            [_judged(pair, (old, new), judges, seed, causes, on_done) for pair in pairs]
        )
    finally:
        await asking.aclose()
    revised = await _revisions(
        reviser or engine, (old, new), revise_prompts, seed, revisions, on_done
    )
    return Impact(
        old=old,
        new=new,
        judge=engine.identity(),
        diff=diff,
        pairs=tuple(impacts),
        revisions=tuple(revised),
        num_asked=asking.num_asked,
        num_two_runs=asking.num_questions,
    )


async def _judged(
    pair: JudgedPair,
    constitutions: tuple[Constitution, Constitution],
    judges: tuple[Judge, Judge],
    seed: int,
    causes: Causes,
    on_done: OnDone | None,
) -> PairImpact:
    async def label(judge: Judge, constitution: Constitution) -> PairLabel | JudgeError:
        try:
            return await judge.compare(
                pair.conversation, pair.a, pair.b, constitution, row=pair.id, seed=seed
            )
        except JudgeError as exc:
            return exc

    old, new = await asyncio.gather(*map(label, judges, constitutions))
    if on_done is not None:
        on_done()
    impact = PairImpact(
        pair,
        None if isinstance(old, JudgeError) else old,
        None if isinstance(new, JudgeError) else new,
        (
            old.reason if isinstance(old, JudgeError) else None,
            new.reason if isinstance(new, JudgeError) else None,
        ),
    )
    if impact.is_flip and impact.old is not None and impact.new is not None:
        return replace(impact, causes=causes.of(impact.old, impact.new))
    return impact


async def _revisions(
    engine: Engine,
    constitutions: tuple[Constitution, Constitution],
    prompts: Sequence[tuple[str, Conversation]],
    seed: int,
    revisions: int,
    on_done: OnDone | None,
) -> list[RevisionImpact]:
    """Greedy, so that both begin with the same draft and nothing differs by chance."""
    asking = RememberingEngine(engine)
    sampling = Sampling(temperature=0.0, max_tokens=256)

    async def one(id: str, prompt: Conversation) -> RevisionImpact | None:
        try:
            old, new = [
                await revise(
                    asking, prompt, one, revisions=revisions, row=id, seed=seed, sampling=sampling
                )
                for one in constitutions
            ]
        except CaiError:
            return None  # a sample: one that fails is not shown
        if on_done is not None:
            on_done()
        return RevisionImpact(prompt, old, new)

    try:
        done = await gather([one(id, prompt) for id, prompt in prompts])
    finally:
        await asking.aclose()
    return [found for found in done if found is not None]
