"""Asks an engine which of two answers follows a constitution better, in both orders.

One prefill and one token per order: no text is generated unless `cot` is set. A verdict that
cannot be trusted is a JudgeError with a reason, never a label. Start from `Judge.compare`; the
maths is in `labels`, the filters before the question in `guards`, the question in `asking`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cai.constitution.schema import Composition, Constitution, Principle, draw
from cai.engine.base import Engine
from cai.errors import InputError, JudgeError
from cai.feedback import labels, prompts, reasoning
from cai.feedback.asking import Asked, Pair, ask, check_mass, gather
from cai.feedback.calibration import Calibration
from cai.feedback.config import JudgeConfig
from cai.feedback.guards import check_pair
from cai.feedback.records import PairLabel, Side
from cai.types import ChatPrompt, Conversation, Message, Usage


class Judge:
    """A judge on one engine. Safe for many concurrent calls; `stats` measures it all the while."""

    def __init__(self, engine: Engine, *, config: JudgeConfig | None = None) -> None:
        self.engine = engine
        self.config = config or JudgeConfig()
        self.stats = Calibration()
        self._slots = asyncio.Semaphore(self.config.max_in_flight)
        self._policy = engine.identity().model

    @property
    def template(self) -> str:
        """Digest of the words in which this judge is asked."""
        return reasoning.DIGEST if self.config.cot else prompts.DIGEST

    async def check(self) -> None:
        """Ask one trivial question, to fail before a long run instead of on each of its rows.

        Raises UnsupportedError when "A" and "B" are not single tokens for this engine's model, and
        JudgeError when it does not answer with them.
        """
        asked = prompts.ask_comparison((Message("user", "Hello!"),), "Hi!", "Go.", "Which is kind?")
        scores = await self.engine.score(ChatPrompt(asked), prompts.LABELS)
        check_mass(labels.read_order(scores.logprobs).mass, self.config.min_mass)

    async def compare(
        self,
        conversation: Conversation,
        a: str,
        b: str,
        constitution: Constitution,
        *,
        row: str,
        seed: int = 0,
        principles: Sequence[str] | None = None,
        known: Side | None = None,
    ) -> PairLabel:
        """Which of `a` and `b` is the better answer to `conversation`, and how sure.

        Principles are drawn by a hash of (seed, row, principle id), or given by id. `known` is the
        right side where the data has it: it is compared with the verdict in `stats`, never shown.
        Raises JudgeError, with its `reason`, when there is no label; engine errors pass through.
        """
        asked_of = self._principles(constitution, principles, row=row, seed=seed)
        composition = self.config.composition or constitution.composition
        try:
            talking = check_pair(conversation, a, b, self.config.guards)
            pair = Pair(conversation, a, b, seed)
            label = await self._measure(pair, asked_of, composition, talking)
        except JudgeError as exc:
            self.stats.miss(self._policy, exc.reason, known=known is not None)
            raise
        self._policy = label.policy
        refusal = self._refusal(label)
        self.stats.observe(label, known=known, refused=None if refusal is None else refusal.reason)
        if refusal is not None:
            raise refusal
        return label

    def require_limits(self) -> list[str]:
        """What of `stats` a run should warn of. Raises JudgeError where the config says refuse."""
        breaches = self.stats.breaches(self.config.limits)
        if breaches and self.config.limits.on_breach == "refuse":
            raise JudgeError("; ".join(breaches), reason="limits", details=self.stats.as_dict())
        return breaches

    def _principles(
        self, constitution: Constitution, ids: Sequence[str] | None, *, row: str, seed: int
    ) -> list[Principle]:
        if ids is not None:
            if not ids:
                raise InputError(
                    "'principles' is empty; name some or leave it out", param="principles"
                )
            return [_comparing(constitution, id) for id in dict.fromkeys(ids)]
        composition = self.config.composition or constitution.composition
        num_drawn = self.config.principles_per_pair if composition == "sample" else 1
        drawn = [
            draw(constitution, step="compare", seed=seed, row=row, index=index)
            for index in range(num_drawn)
        ]
        if composition != "sample":
            return list(constitution.candidates("compare"))
        return list({one.id: one for one in drawn}.values())

    async def _measure(
        self,
        pair: Pair,
        principles: Sequence[Principle],
        composition: Composition,
        talking: tuple[str, ...],
    ) -> PairLabel:
        asked = await self._ask_one_policy(pair, principles, composition)
        votes = tuple(one.vote for one in asked if one.vote is not None)
        combined = labels.combine(votes, composition, band=self.config.decided_band)
        return PairLabel(
            read=combined.read,
            votes=votes,
            decided_by=combined.decided_by,
            template=self.template,
            policy=next(iter(asked[0].policies)),
            policy_digest=self.engine.identity().digest,
            clamp=self.config.cot_clamp if self.config.cot else None,
            temperature=self.config.temperature,
            missing={one.principle: one.problem.reason for one in asked if one.problem},
            talks_to_judge=talking,
            reasoning=tuple(text for one in asked for text in one.reasoning),
            usage=sum((one.usage for one in asked), Usage()),
        )

    async def _ask_one_policy(
        self, pair: Pair, principles: Sequence[Principle], composition: Composition
    ) -> list[Asked]:
        """Answers of one policy to all questions; after a swap in between, the new one's."""
        for _ in range(2):
            asked = await self._ask_principles(pair, principles, composition)
            policies = frozenset[str]().union(*(one.policies for one in asked))
            if len(policies) == 1:
                return asked
        names = ", ".join(sorted(policies))
        raise JudgeError(
            f"the judge changed between the questions on a pair: {names}", reason="policy-changed"
        )

    async def _ask_principles(
        self, pair: Pair, principles: Sequence[Principle], composition: Composition
    ) -> list[Asked]:
        """No more questions than the composition needs; only a mean bears one without a verdict."""
        band = self.config.decided_band
        if composition == "priority":
            in_order: list[Asked] = []
            for principle in principles:
                in_order.append((await self._ask(pair, principle)).required())
                if _is_decided(in_order[-1], band):
                    break
            return in_order
        if composition == "veto":
            vetoes = [one for one in principles if "veto" in one.tags]
            asked = [one.required() for one in await self._ask_all(pair, vetoes)]
            if any(_is_decided(one, band) for one in asked):
                return asked
            rest = [one for one in principles if "veto" not in one.tags]
            return asked + [one.required() for one in await self._ask_all(pair, rest)]
        asked = await self._ask_all(pair, principles)
        if not any(one.vote for one in asked):
            asked[0].required()
        return asked

    async def _ask_all(self, pair: Pair, principles: Sequence[Principle]) -> list[Asked]:
        if len(principles) == 1:
            return [await self._ask(pair, principles[0])]
        return await gather([self._ask(pair, principle) for principle in principles])

    async def _ask(self, pair: Pair, principle: Principle) -> Asked:
        async with self._slots:
            return await ask(self.engine, pair, principle, self.config)

    def _refusal(self, label: PairLabel) -> JudgeError | None:
        config, read = self.config, label.read
        if config.refuse_flips and labels.flips(read.p_ab, read.p_ba, band=config.flip_band):
            reason, what = (
                "flip",
                (
                    "the verdict flips with the order: P(first answer) is "
                    f"{read.p_ab:.3f} shown first, {read.p_ba:.3f} shown second"
                ),
            )
        elif config.max_bias is not None and abs(read.position_bias) > config.max_bias:
            reason = "bias"
            what = f"the position bias is {read.position_bias:.3f}, the limit {config.max_bias}"
        elif not labels.is_decided(label.p_a, config.tie_band):
            reason, what = "tie", f"a tie: P(first answer) is {label.p_a:.3f}"
        else:
            return None
        details = {
            "preferred": label.chosen,
            "p_chosen": label.p_chosen,
            "label": label.as_row_label(),
        }
        return JudgeError(what, reason=reason, details=details)


def _comparing(constitution: Constitution, id: str) -> Principle:
    principle = constitution.principle(id)
    if not principle.serves("compare"):
        raise InputError(
            f"principle '{id}' of {constitution.ref} has no 'compare' text; "
            "add one, or name another principle",
            param="principles",
        )
    return principle


def _is_decided(asked: Asked, band: float) -> bool:
    return asked.vote is not None and labels.is_decided(asked.vote.p_a, band)
