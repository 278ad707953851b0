"""One judge, or one reward model, put to one file of pairs that people labelled; and the record.

Start from `evaluate_judge` or `evaluate_reward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.schema import Constitution
from cai.engine.base import Engine
from cai.errors import ConfigError
from cai.evaluate.judge_data import Known
from cai.evaluate.judge_report import judge_figures
from cai.evaluate.judge_rewards import Reward
from cai.evaluate.judge_verdicts import Verdict, ask_judge, ask_reward
from cai.evaluate.policy_eval import judge_ref
from cai.evaluate.results import EvalResult, JudgeRef, new_id, now
from cai.feedback.config import JudgeConfig
from cai.feedback.judge import Judge
from cai.registry import choices


class JudgeEvaluation(NamedTuple):
    """Who judged what, and every verdict."""

    judge: JudgeRef
    known: Known
    verdicts: Sequence[Verdict]
    has_orders: bool

    def result(
        self, data: Path, *, seed: int = 0, id: str | None = None, **settings: Any
    ) -> EvalResult:
        """The record to keep."""
        return EvalResult(
            id=id or new_id("judge"),
            kind="judge",
            created_at=now(),
            judge=self.judge,
            seed=seed,
            settings={"data": data.name, "data_digest": self.known.digest, **settings},
            figures=judge_figures(self.known, self.verdicts, has_orders=self.has_orders),
        )

    def files(self) -> dict[str, list[dict[str, Any]]]:
        """Lines beside the record."""
        return {"verdicts.jsonl": [one.as_dict() for one in self.verdicts]}


async def evaluate_judge(
    engine: Engine,
    address: str,
    constitution: Constitution,
    known: Known,
    *,
    principles: Sequence[str] = (),
    config: JudgeConfig | None = None,
    seed: int = 0,
    on_pair: Callable[[], None] | None = None,
) -> JudgeEvaluation:
    """Ask the judge about each pair in both orders, by drawn principles or by those named.

    Raises as `check_principles`; engine errors pass through.
    """
    check_principles(constitution, principles)
    judge = Judge(engine, config=config)
    verdicts = await ask_judge(
        judge,
        constitution,
        known.pairs,
        principles=list(principles) or None,
        seed=seed,
        on_pair=on_pair,
    )
    return JudgeEvaluation(judge_ref(address, engine, constitution), known, verdicts, True)


async def evaluate_reward(
    reward: Reward, ref: str, known: Known, *, on_pair: Callable[[int], None] | None = None
) -> JudgeEvaluation:
    """Score each answer once; the order in which two are shown does not exist here."""
    verdicts = await ask_reward(reward, known.pairs, on_pair=on_pair)
    judge = JudgeRef(address=ref, model=reward.name, digest=reward.digest)
    return JudgeEvaluation(judge, known, verdicts, False)


def check_principles(constitution: Constitution, principles: Sequence[str]) -> None:
    """Raise ConfigError unless the constitution, and each of `principles`, can compare answers."""
    able = {one.id for one in constitution.candidates("compare")}
    if not able:
        raise ConfigError(
            f"{constitution.ref} has no principle with a 'compare'; name another with -c",
            param="constitution",
        )
    for id in principles:
        if id not in able:
            told = f"{constitution.ref} has no principle '{id[:100]}' that compares"
            raise ConfigError(f"{told}{choices(id, able)}", param="principle")
