"""The critique-revision loop for one request: its draws, its metrics, its token counts."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.requests import Request

from cai.constitution.schema import Constitution
from cai.critique.loop import revise
from cai.critique.records import Transcript
from cai.engine.base import Engine
from cai.files import digest_json
from cai.types import Conversation, Sampling, Usage
from server.deps import count, services


async def run_loop(
    request: Request,
    engine: Engine,
    conversation: Conversation,
    constitution: Constitution,
    *,
    revisions: int,
    principles: list[str] | None,
    sampling: Sampling,
    on_progress: Callable[[Transcript], None] | None = None,
) -> Transcript:
    """The transcript. Equal conversation and seed draw equal principles; no seed, fresh ones."""
    metrics = services(request).metrics
    counted = Usage()

    def progressed(transcript: Transcript) -> None:
        nonlocal counted
        count(request, _since(counted, transcript.usage))
        counted = transcript.usage
        if transcript.steps:
            metrics.observe_step(transcript.steps[-1])
        if on_progress is not None:
            on_progress(transcript)

    return await revise(
        engine,
        conversation,
        constitution,
        revisions=revisions,
        row=digest_json([message.as_dict() for message in conversation]),
        seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
        principles=principles,
        sampling=sampling,
        on_progress=progressed,
    )


def _since(before: Usage, now: Usage) -> Usage:
    return Usage(
        now.prompt_tokens - before.prompt_tokens,
        now.completion_tokens - before.completion_tokens,
        now.cached_tokens - before.cached_tokens,
    )
