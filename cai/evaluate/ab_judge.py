"""A judge between two arms: recorded answers of live traffic against the other arm's own.

A prompt was answered by one arm, so the other is asked now, at temperature 1. Each prompt gives one
probability that b's answer is better. A later look asks the same of what it had before, since the
test counts every verdict once, in its order. Start from `judge_arms`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cai.constitution.schema import Constitution
from cai.engine.base import Engine
from cai.errors import ContextLengthError, JudgeError
from cai.evaluate.ab import Arms, once_per_user
from cai.evaluate.policy_eval import Opening, Progress, judge_ref, opened
from cai.evaluate.results import JudgeRef
from cai.evaluate.suite_answers import seed_of
from cai.feedback.asking import gather
from cai.feedback.judge import Judge
from cai.types import ChatPrompt, Conversation, Sampling, conversation

if TYPE_CHECKING:
    from cai.policy.feedback import StoredFeedback  # needs what the database needs

MAX_TOKENS = 512
_TIES = frozenset({"identical", "tie"})


class Answered(NamedTuple):
    """A prompt, and what each arm answered; None: the prompt does not fit its context."""

    id: str
    prompt: Conversation
    answers: Mapping[str, str | None]


class Wins(NamedTuple):
    """The probabilities that b's answers are better, in the order of the feedback."""

    values: tuple[float, ...]
    no_verdict: int
    judge: JudgeRef


async def judge_arms(
    records: Sequence[StoredFeedback],
    arms: Arms,
    addresses: Mapping[str, str],
    judge_at: str,
    constitution: Constitution,
    *,
    limit: int = 200,
    seed: int = 0,
    open_at: Opening = opened,
    progress: Progress | None = None,
) -> Wins:
    """Compare the arms on the first `limit` prompts that users of either gave feedback on.

    The first, so that more feedback only adds verdicts, where engines honour seeds; a window that
    moved would make the test begin anew at each look. `addresses` has the engine of each arm.
    Engine errors pass through.
    """
    progress = progress or Progress()
    told = once_per_user(records, arms, "judge")[0][:limit]
    pairs = [
        Answered(one.id, conversation(one.messages), {str(one.arm): one.response}) for one in told
    ]
    for arm in arms:
        missing = [at for at, pair in enumerate(pairs) if arm not in pair.answers]
        if not missing:
            continue
        progress.begin(f"asking {arm}", len(missing))
        async with open_at(addresses[arm]) as engine:
            said = await _answer([pairs[at] for at in missing], engine, seed, progress.done)
        for at, text in zip(missing, said, strict=True):
            pairs[at] = pairs[at]._replace(answers={**pairs[at].answers, arm: text})
    async with open_at(judge_at) as engine:
        progress.begin("comparing", len(pairs))
        judge = Judge(engine)
        found = await gather(
            [_compare(judge, pair, arms, constitution, seed, progress.done) for pair in pairs]
        )
        values = tuple([p for p in found if p is not None])
        return Wins(values, len(found) - len(values), judge_ref(judge_at, engine, constitution))


async def _answer(
    pairs: Sequence[Answered], engine: Engine, seed: int, on_done: Callable[[], None]
) -> list[str | None]:
    async def one(pair: Answered) -> str | None:
        try:
            sampling = Sampling(max_tokens=MAX_TOKENS, seed=seed_of(seed, pair.id))
            return (await engine.generate(ChatPrompt(pair.prompt), sampling)).text.strip()
        except ContextLengthError:
            return None
        finally:
            on_done()

    return await gather([one(pair) for pair in pairs])


async def _compare(
    judge: Judge,
    pair: Answered,
    arms: Arms,
    constitution: Constitution,
    seed: int,
    on_done: Callable[[], None],
) -> float | None:
    """P(b's answer is the better one); None without a verdict."""
    a, b = pair.answers[arms.a], pair.answers[arms.b]
    try:
        if a is None or b is None:
            return None
        label = await judge.compare(pair.prompt, b, a, constitution, row=pair.id, seed=seed)
        return label.p_a
    except JudgeError as exc:
        return 0.5 if exc.reason in _TIES else None
    finally:
        on_done()
