"""Asks an engine for what a trainer computed: does it answer as the policy was trained?

Digests show that the files are right, probes that the engine computes with them. Start from
`replay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from cai.engine.base import Engine
from cai.policy.manifest import Probe
from cai.types import Sampling, TextPrompt, TokenPrompt

FLOAT32_TOLERANCE: Final = 0.001
LOW_PRECISION_TOLERANCE: Final = 0.5

_NUM_OWN = 24
_TEXTS = (
    "What is a good way to open a jar whose lid is stuck?",
    "The boat lies in the harbour, and the tower stands beside the mill.",
    "I am sure that the fence is green. Am I right?",
    "Name three things that one needs to bake a cake.",
    "No, I will not help with that, because someone could be hurt.",
    "1 2 3 4 5 6 7 8 9 10",
    "Tell me more about what you want to do with the letter.",
    "First ask the carpenter, then use some oil.",
)


class ProbeReport(NamedTuple):
    """How far an engine is off, over all continuation tokens: |log-prob - the trainer's| in nats.

    `worst` is the index of the probe with the largest difference, -1 when there are none.
    """

    max_abs_diff: float
    mean_abs_diff: float
    num_tokens: int
    worst: int


def default_tolerance(dtype: str) -> float:
    """Largest `max_abs_diff` at which an engine that computes in `dtype` passes, in nats.

    Measured on the sandbox's model, 32 probes of 557 tokens, against a trainer in float32: an
    engine in float32 is off by 4e-6 at most, whatever the checkpoint's dtype; one in bfloat16 by
    0.06 at most and 0.003 on average, and deeper models by several times that. Weights that each
    moved by 1e-4 of their tensor's spread are off by 0.003, by 0.02 of it by 0.4. So float32 finds
    a step of training that was not loaded; bfloat16 finds only what is plainly another model.
    To ask whether the engine is nearer to the log-probs after the step than to those before it is
    no way out: rounding to bfloat16 swallows much of a small step (16 of AdamW at 1e-5 move a token
    by 0.04), so that weights loaded well are off by 0.037 from the ones and 0.023 from the others.
    Probes must be of the exported weights: rounding them to bfloat16 alone is off by as much.
    """
    return FLOAT32_TOLERANCE if dtype in ("float32", "float64") else LOW_PRECISION_TOLERANCE


async def replay(engine: Engine, probes: Sequence[Probe]) -> ProbeReport:
    """Compute every probe again; all are in flight at once."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_diffs(engine, probe)) for probe in probes]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    diffs = [task.result() for task in tasks]
    flat = [diff for one in diffs for diff in one]
    if not flat:
        return ProbeReport(0.0, 0.0, 0, -1)
    worst = max(range(len(diffs)), key=lambda index: max(diffs[index]))
    return ProbeReport(max(flat), sum(flat) / len(flat), len(flat), worst)


async def own_probes(engine: Engine) -> tuple[Probe, ...]:
    """Probes that the engine computes of itself, to recognise it after it came back from others."""
    texts = [TextPrompt(text) for text in _TEXTS]
    sampling = Sampling(max_tokens=_NUM_OWN, temperature=0.0, logprobs=0)
    made = await asyncio.gather(*(engine.generate(text, sampling) for text in texts))
    places = await asyncio.gather(*(engine.prompt_logprobs(text) for text in texts))
    probes = []
    for known, generation in zip(places, made, strict=True):
        ids = tuple(token.id for token in known) + generation.completions[0].token_ids
        if len(ids) > 1:
            continuation = await engine.prompt_logprobs(TokenPrompt(ids))
            logprobs = tuple(min(0.0, token.logprob) for token in continuation)
            probes.append(Probe(prompt_ids=ids[:1], continuation_ids=ids[1:], logprobs=logprobs))
    return tuple(probes)


async def _diffs(engine: Engine, probe: Probe) -> list[float]:
    """|difference| of each continuation token, in order."""
    ids = probe.prompt_ids + probe.continuation_ids
    found = await engine.prompt_logprobs(TokenPrompt(ids))
    own = found[-len(probe.continuation_ids) :]
    return [abs(one.logprob - known) for one, known in zip(own, probe.logprobs, strict=True)]
