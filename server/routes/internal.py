"""`/internal`: for workers and trainers that ask the process which owns the engine."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.engine.base import Engine
from cai.types import Completion, TokenPrompt
from server.deps import LIVE, check_limit, count, services
from server.paging import check_query
from server.routes.table import query_parameters, router, takes
from server.schemas.internal import GenerateRequest, ScoreRequest, SleepRequest
from server.schemas.replies import about, finite, json_response, policy_headers, usage_json
from server.work import perform, read

internal = router("internal")

_MODEL = {"model": "Who is asked about; what is live when left out."}


@internal.post("/internal/generate", openapi_extra=takes(GenerateRequest))
async def generate(request: Request) -> Response:
    """Generate from token ids, and give token ids back."""
    body = await read(request, GenerateRequest)
    check_limit(_named(request), body.max_tokens, "max_tokens")
    sampling = body.sampling(max_tokens=body.max_tokens, n=body.n, logprobs=body.logprobs)

    async def work() -> Response:
        engine = _named(request)
        generation = await engine.generate(TokenPrompt(tuple(body.prompt_token_ids)), sampling)
        count(request, generation.usage)
        reply = {
            "completions": [_completion(one) for one in generation.completions],
            "usage": usage_json(generation.usage),
            **about(generation.policy, generation.seed_honoured),
        }
        return json_response(reply, policy_headers(generation.policy))

    return await perform(request, work)


@internal.post("/internal/score", openapi_extra=takes(ScoreRequest))
async def score(request: Request) -> Response:
    """Log-probs of labels as the next token; asked of the judge where there is one."""
    body = await read(request, ScoreRequest)

    async def work() -> Response:
        judge = services(request).judge()
        scores = await judge.score(body.to_prompt(), body.labels)
        count(request, scores.usage)
        reply = {
            "logprobs": {label: finite(value) for label, value in scores.logprobs.items()},
            "mass": scores.mass,
            "usage": usage_json(scores.usage),
            **about(scores.policy, None),
        }
        return json_response(reply, policy_headers(scores.policy))

    return await perform(request, work)


@internal.post("/internal/sleep", openapi_extra=takes(SleepRequest))
async def sleep(request: Request) -> Response:
    """Leave the engine's device to a job, once the requests at work have ended; again renews."""
    body = await read(request, SleepRequest)
    sleeper = services(request).sleeper

    async def work() -> Response:
        await sleeper.sleep(body.job, body.lease_s)
        return json_response({"asleep_for": sleeper.job})

    return await perform(request, work, in_queue=False)


@internal.post("/internal/wake", openapi_extra=takes(SleepRequest))
async def wake(request: Request) -> Response:
    """Take the device back from a job; `woken` says whether it had it."""
    body = await read(request, SleepRequest)
    sleeper = services(request).sleeper

    async def work() -> Response:
        return json_response({"woken": await sleeper.wake(body.job)})

    return await perform(request, work, in_queue=False)


@internal.get("/internal/identity", openapi_extra=query_parameters(**_MODEL))
async def identity(request: Request) -> Response:
    """Who answers: engine, model, digests."""
    check_query(request, _MODEL)
    found = _named(request, request.query_params.get("model", LIVE)).identity()
    return json_response(found.as_dict(), policy_headers(found.model))


def _named(request: Request, model: str = LIVE) -> Engine:
    """The engine as `model` answers; what `live` stands for, whatever an A/B split says."""
    live = services(request).live
    return live.engine(live.name if model == LIVE else model)


def _completion(completion: Completion) -> dict[str, Any]:
    told: dict[str, Any] = {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
    }
    if completion.logprobs is not None:
        told["logprobs"] = [
            {
                "id": token.id,
                "text": token.text,
                "logprob": finite(token.logprob),
                "top": [
                    {"id": id_, "text": text, "logprob": finite(value)}
                    for id_, text, value in token.top
                ],
            }
            for token in completion.logprobs
        ]
    return told
