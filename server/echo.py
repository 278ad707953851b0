"""The prompt of a text completion given back: its text, and the log-prob of each of its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from cai.engine.base import Engine
from cai.errors import CaiError
from cai.types import Prompt, TextPrompt, TokenLogprob, TokenPrompt
from server.deps import Services

_MAX_FIRST_TEXTS = 10_000

_T = TypeVar("_T")


class Echo(NamedTuple):
    """A prompt's text and tokens. The first token has no log-prob, only `first_text`."""

    text: str
    first_text: str
    logprobs: tuple[TokenLogprob | None, ...]


async def echo(service: Services, engine: Engine, prompt: Prompt, *, top: int) -> Echo:
    """One prefill of `prompt`, with `top` alternatives at each place."""
    known = await engine.prompt_logprobs(prompt, top=top)
    rest = "".join(token.text for token in known)
    if isinstance(prompt, TextPrompt):
        first = prompt.text.removesuffix(rest) if prompt.text.endswith(rest) else ""
        return Echo(prompt.text, first, (None, *known))
    assert isinstance(prompt, TokenPrompt), "text completions take text or token ids"
    first = await _first_text(service, engine, prompt.ids[0])
    return Echo(first + rest, first, (None, *known))


async def together(calls: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Results of calls that run at once; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except* CaiError as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
    return [task.result() for task in tasks]


async def _first_text(service: Services, engine: Engine, token_id: int) -> str:
    """An engine tells a token's text only with its log-prob, so the token is put after itself."""
    texts = service.first_texts
    if token_id not in texts:
        (token,) = await engine.prompt_logprobs(TokenPrompt((token_id, token_id)), top=0)
        if len(texts) >= _MAX_FIRST_TEXTS:
            texts.clear()
        texts[token_id] = token.text
    return texts[token_id]
