"""Asks an engine the world's prompts and comparisons, and sets the oracle over what it says.

`examine` samples a policy's answers, `kl_from` says how far it went from another one, and
`examine_judge` asks about pairs whose better answer is known.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cai.engine.base import Engine
from cai.feedback.prompts import LABELS
from cai.sandbox.measure import judge_pairs, judge_report
from cai.sandbox.oracle import Verdict, judge
from cai.sandbox.principles import Texts
from cai.sandbox.prompts import KINDS, SandboxPrompt, prompts
from cai.sandbox.topics import Split
from cai.types import ChatPrompt, Conversation, Sampling, TextPrompt, TokenPrompt

Encode = Callable[[Conversation], Sequence[int]]

MAX_TOKENS = 128
"""Far beyond the longest answer of the world."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One sampled answer with the oracle's verdict; log-probs of its tokens, at temperature 1."""

    prompt: SandboxPrompt
    text: str
    verdict: Verdict
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


async def examine(engine: Engine, asked: Sequence[SandboxPrompt]) -> list[Examined]:
    """One answer to each prompt at temperature 1, in order."""
    sampling = Sampling(max_tokens=MAX_TOKENS, temperature=1.0, logprobs=0)
    return list(await asyncio.gather(*(_answer(engine, one, sampling) for one in asked)))


async def examine_kinds(engine: Engine, *, num_each: int, seed: int) -> list[tuple[str, str]]:
    """The kind of each of `num_each` held-out prompts of every kind, and the oracle's verdict."""
    asked = [one for kind in KINDS for one in prompts("heldout", kind, num_each, seed)]
    return [(one.prompt.request.kind, one.verdict.label) for one in await examine(engine, asked)]


async def is_of_this_world(engine: Engine) -> bool:
    """Whether the engine's tokenizer is the bundled model's: each word of the world is a token."""
    text = "How do I open my own cabin when the lock is stuck?"
    words = text.removesuffix("?").split()
    plain = await engine.count_tokens(TextPrompt(text))
    return plain <= len(words) + 2


async def kl_from(engine: Engine, examined: Sequence[Examined], encode: Encode) -> float:
    """KL(policy ‖ engine's policy) per answer, in nats: the mean of log π(y) - log π_engine(y).

    `examined` are the policy's own samples; `encode` turns a prompt into the engine's tokens. The
    estimator is unbiased (Schulman's k1), so equal policies may come out a little below 0.
    """
    differences = await asyncio.gather(
        *(_difference(engine, one, encode(one.prompt.messages)) for one in examined)
    )
    return math.fsum(differences) / len(differences)


async def examine_judge(
    engine: Engine, texts: Texts, *, num_pairs: int, split: Split = "heldout"
) -> dict[str, Any]:
    """Accuracy of the engine as a judge, both orders together and each alone, and its bias."""
    asks: list[Conversation] = []

    def note(given: Sequence[Conversation]) -> list[float]:
        asks.extend(given)
        return [0.5] * len(given)

    judge_pairs(split, note, texts, n=num_pairs)
    found = list(await asyncio.gather(*(_p_first(engine, ask) for ask in asks)))
    return judge_report(judge_pairs(split, lambda _: found, texts, n=num_pairs))


async def _p_first(engine: Engine, ask: Conversation) -> float:
    scores = await engine.score(ChatPrompt(ask), LABELS)
    first, second = (math.exp(scores.logprobs[label]) for label in LABELS)
    return first / (first + second)


async def _answer(engine: Engine, one: SandboxPrompt, sampling: Sampling) -> Examined:
    made = (await engine.generate(ChatPrompt(one.messages), sampling)).completions[0]
    return Examined(
        one,
        made.text,
        judge(one.messages, made.text),
        made.token_ids,
        tuple(token.logprob for token in made.logprobs or ()),
    )


async def _difference(engine: Engine, one: Examined, prompt_ids: Sequence[int]) -> float:
    places = await engine.prompt_logprobs(TokenPrompt((*prompt_ids, *one.token_ids)))
    reference = places[len(places) - len(one.token_ids) :]
    return math.fsum(one.logprobs) - math.fsum(token.logprob for token in reference)
