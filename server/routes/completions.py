"""`POST /v1/completions`: what evaluation harnesses call. Text or token ids, echo with logprobs."""

from __future__ import annotations

import time
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from cai.engine.base import Engine
from cai.types import Completion, Generation, Prompt, Usage
from server.context import request_info
from server.deps import Answerer, answerer_of, check_limit, count, services
from server.echo import Echo, echo, together
from server.routes.table import router, takes
from server.schemas.chunks import ChunkWriter
from server.schemas.completions import CompletionRequest
from server.schemas.replies import (
    about,
    json_response,
    policy_headers,
    text_choice,
    text_logprobs,
    usage_json,
)
from server.streaming import DONE, Events, event, stream
from server.work import perform, read

completions = router("completions")


class _Done(NamedTuple):
    generation: Generation
    echo: Echo | None


@completions.post("/v1/completions", openapi_extra=takes(CompletionRequest))
async def complete_text(request: Request) -> Response:
    """Continue a text, or a list of token ids, or several of either."""
    body = await read(request, CompletionRequest)
    answerer = answerer_of(request, body.model, body.user)
    check_limit(answerer(), body.to_sampling().max_tokens, "max_tokens")
    request_info(request).tag_user(body.user)
    if body.stream:
        headers = policy_headers(answerer().identity().model)
        return stream(request, _chunks(request, answerer, body, headers), headers)
    return await perform(request, partial(_answer, request, answerer, body))


async def _answer(request: Request, answerer: Answerer, body: CompletionRequest) -> Response:
    engine = answerer()
    done = await together([_one(request, engine, body, prompt) for prompt in body.to_prompts()])
    usage = sum((one.generation.usage for one in done), Usage())
    count(request, usage)
    first = done[0].generation
    choices = [
        _choice(index * len(one.generation.completions) + number, completion, one.echo, body)
        for index, one in enumerate(done)
        for number, completion in enumerate(one.generation.completions)
    ]
    reply = {
        "id": _id(request),
        "object": "text_completion",
        "created": int(time.time()),
        "model": first.policy,
        "choices": choices,
        "usage": usage_json(usage),
        "cai": about(first.policy, first.seed_honoured),
    }
    return json_response(reply, policy_headers(first.policy))


async def _one(request: Request, engine: Engine, body: CompletionRequest, prompt: Prompt) -> _Done:
    echoed = None
    if body.echo:
        echoed = await echo(services(request), engine, prompt, top=body.logprobs or 0)
    if echoed is not None and body.max_tokens == 0:
        usage = Usage(len(echoed.logprobs), 0)
        nothing = (Completion("", "length", logprobs=()),) * (body.n or 1)
        honoured = None if body.seed is None else True  # nothing is sampled
        return _Done(Generation(nothing, usage, engine.identity().model, honoured), echoed)
    return _Done(await engine.generate(prompt, body.to_sampling()), echoed)


def _choice(
    index: int, completion: Completion, echoed: Echo | None, body: CompletionRequest
) -> dict[str, Any]:
    text = completion.text if echoed is None else echoed.text + completion.text
    logprobs = None
    if body.logprobs is not None:
        tokens = (*(echoed.logprobs if echoed else ()), *(completion.logprobs or ()))
        first_text = echoed.first_text if echoed else ""
        logprobs = text_logprobs(tokens, top=body.logprobs, first_text=first_text)
    return text_choice(index, completion, logprobs=logprobs, text=text)


async def _chunks(
    request: Request, answerer: Answerer, body: CompletionRequest, headers: dict[str, str]
) -> Events:
    """The events of a stream; fills `headers` before the first."""
    engine = answerer()
    writer = ChunkWriter(
        _id(request),
        "text_completion",
        top_logprobs=body.logprobs,
        tells_usage=body.includes_usage,
    )
    policy = engine.identity().model
    is_first = True
    async with aclosing(engine.stream(body.to_prompts()[0], body.to_sampling())) as chunks:
        async for chunk in chunks:
            if is_first:
                is_first = False
                policy = chunk.policy or policy
                headers.update(policy_headers(policy))
                writer.name_policy(policy)
                request_info(request).mark_first_token()
            cai = about(policy, chunk.seed_honoured) if chunk.usage is not None else None
            if chunk.text or chunk.logprobs or chunk.finish_reason or cai:
                yield event(writer.text(chunk, cai=cai))
            if chunk.usage is not None:
                count(request, chunk.usage)
                if body.includes_usage:
                    yield event(writer.usage(chunk.usage))
    yield DONE


def _id(request: Request) -> str:
    return f"cmpl-{request_info(request).id}"
