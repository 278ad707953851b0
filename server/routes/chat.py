"""`POST /v1/chat/completions`: plain, or critiqued and revised first; whole, or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from cai.constitution.schema import Constitution
from cai.critique.records import Transcript
from cai.engine.base import Engine
from cai.types import ChatPrompt, Chunk, Sampling
from server.context import request_info
from server.deps import Answerer, answerer_of, check_limit, count, services
from server.loop import run_loop
from server.routes.table import router, takes
from server.schemas.chat import CaiOptions, ChatRequest
from server.schemas.chunks import ChunkWriter
from server.schemas.common import to_conversation
from server.schemas.replies import (
    about,
    about_loop,
    answer_finish_reason,
    chat_answer,
    chat_completion,
    json_response,
    loop_headers,
    policy_headers,
)
from server.streaming import DONE, Events, event, stream
from server.work import perform, read

chat = router("chat")

_LOOP_MAX_TOKENS = 512


@chat.post("/v1/chat/completions", openapi_extra=takes(ChatRequest))
async def complete_chat(request: Request) -> Response:
    """Answer a conversation; with `cai`, critique and revise the answer first."""
    body = await read(request, ChatRequest)
    answerer = answerer_of(request, body.model, body.user_tag)
    sampling = body.to_sampling()
    check_limit(answerer(), sampling.max_tokens, body.limit_field)
    request_info(request).tag_user(body.user_tag)
    if body.cai is not None:
        return await _critiqued(request, answerer, body, body.cai)
    if body.stream:
        headers = policy_headers(answerer().identity().model)
        return stream(request, _chunks(request, answerer, body, sampling, headers), headers)
    return await perform(request, partial(_answer, request, answerer, body, sampling))


async def _answer(
    request: Request, answerer: Answerer, body: ChatRequest, sampling: Sampling
) -> Response:
    prompt = ChatPrompt(to_conversation(body.messages))
    generation = await answerer().generate(prompt, sampling)
    count(request, generation.usage)
    return json_response(
        chat_completion(_id(request), generation), policy_headers(generation.policy)
    )


async def _chunks(
    request: Request,
    answerer: Answerer,
    body: ChatRequest,
    sampling: Sampling,
    headers: dict[str, str],
) -> Events:
    """The events of a plain stream; fills `headers` before the first."""
    engine = answerer()
    writer = _writer(request, body)
    begun: set[int] = set()
    policy = engine.identity().model
    async with aclosing(
        engine.stream(ChatPrompt(to_conversation(body.messages)), sampling)
    ) as all_:
        async for chunk in all_:
            if not begun:
                policy = chunk.policy or policy
                headers.update(policy_headers(policy))
                writer.name_policy(policy)
                request_info(request).mark_first_token()
            if chunk.index not in begun:
                begun.add(chunk.index)
                yield event(writer.role(chunk.index))
            cai = about(policy, chunk.seed_honoured) if chunk.usage is not None else None
            if chunk.text or chunk.logprobs or chunk.finish_reason or cai:
                yield event(writer.chat(chunk, cai=cai))
            if chunk.usage is not None:
                count(request, chunk.usage)
                if body.includes_usage:
                    yield event(writer.usage(chunk.usage))
    yield DONE


async def _critiqued(
    request: Request, answerer: Answerer, body: ChatRequest, options: CaiOptions
) -> Response:
    constitution = await services(request).constitution(options.constitution)
    if body.stream:
        headers = policy_headers(answerer().identity().model)
        events = _critiqued_events(request, answerer, body, options, constitution, headers)
        return stream(request, events, headers)

    async def work() -> Response:
        transcript = await _revise(request, answerer(), body, options, constitution, None)
        answer = chat_answer(_id(request), transcript, with_steps=options.return_steps)
        return json_response(answer, loop_headers(transcript))

    return await perform(request, work)


async def _critiqued_events(
    request: Request,
    answerer: Answerer,
    body: ChatRequest,
    options: CaiOptions,
    constitution: Constitution,
    headers: dict[str, str],
) -> Events:
    """Step events where they are asked for, then the final answer."""
    writer = _writer(request, body)
    progress: asyncio.Queue[Transcript | None] = asyncio.Queue()
    looping = asyncio.ensure_future(
        _revise(request, answerer(), body, options, constitution, progress.put_nowait)
    )
    looping.add_done_callback(lambda _: progress.put_nowait(None))
    try:
        while (transcript := await progress.get()) is not None:
            headers.update(loop_headers(transcript))
            writer.name_policy(transcript.policy)
            if options.stream_steps:
                yield event(writer.step(_progress_json(transcript)), name="cai.step")
        transcript = await looping
    finally:
        looping.cancel()
        await asyncio.gather(looping, return_exceptions=True)
    request_info(request).mark_first_token()
    yield event(writer.role(0))
    yield event(writer.chat(Chunk(0, transcript.answer)))
    last = Chunk(0, "", answer_finish_reason(transcript))
    yield event(writer.chat(last, cai=about_loop(transcript, with_steps=options.return_steps)))
    if body.includes_usage:
        yield event(writer.usage(transcript.usage))
    yield DONE


async def _revise(
    request: Request,
    engine: Engine,
    body: ChatRequest,
    options: CaiOptions,
    constitution: Constitution,
    on_progress: Callable[[Transcript], None] | None,
) -> Transcript:
    sampling = body.to_sampling()
    if sampling.max_tokens is None:
        sampling = replace(sampling, max_tokens=_LOOP_MAX_TOKENS)  # room for the later steps
    return await run_loop(
        request,
        engine,
        to_conversation(body.messages),
        constitution,
        revisions=options.revisions,
        principles=options.principles,
        sampling=sampling,
        on_progress=on_progress,
    )


def _progress_json(transcript: Transcript) -> dict[str, object]:
    """What a step event tells: the draft as step 0, then each step."""
    number = len(transcript.steps)
    if number == 0:
        return {"step": 0, "draft": transcript.draft}
    return {"step": number, **transcript.steps[-1].as_dict()}


def _writer(request: Request, body: ChatRequest) -> ChunkWriter:
    return ChunkWriter(
        _id(request),
        "chat.completion.chunk",
        top_logprobs=body.to_sampling().logprobs,
        tells_usage=body.includes_usage,
    )


def _id(request: Request) -> str:
    return f"chatcmpl-{request_info(request).id}"
