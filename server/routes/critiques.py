"""`POST /v1/critiques` and `POST /v1/revisions`: the loop's parts, for answers from anywhere."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from cai.critique.loop import critique
from cai.types import Sampling, Usage
from server.context import request_info
from server.deps import answerer_of, check_limit, count, services
from server.loop import run_loop
from server.routes.table import router, takes
from server.schemas.common import to_conversation
from server.schemas.loop import CritiqueRequest, RevisionRequest
from server.schemas.replies import (
    about,
    constitution_headers,
    json_response,
    loop_headers,
    policy_headers,
    revision,
    usage_json,
)
from server.work import perform, read

critiques = router("critiques")


@critiques.post("/v1/critiques", openapi_extra=takes(CritiqueRequest))
async def critique_response(request: Request) -> Response:
    """Critique a given response, once per principle."""
    body = await read(request, CritiqueRequest)
    answerer = answerer_of(request, body.model)
    check_limit(answerer(), body.max_tokens, "max_tokens")
    constitution = await services(request).constitution(body.constitution)

    async def work() -> Response:
        engine = answerer()
        found = await critique(
            engine,
            to_conversation(body.messages),
            body.response,
            constitution,
            principles=body.principles,
            sampling=_sampling(body),
        )
        usage = sum((one.usage for one in found), Usage())
        count(request, usage)
        policy = engine.identity().model
        reply = {
            "id": f"crit-{request_info(request).id}",
            "object": "critiques",
            "constitution": constitution.ref,
            "digest": constitution.digest,
            **about(policy, None),
            "critiques": [
                {"principle": one.principle, "critique": one.text, "finding": one.finding}
                for one in found
            ],
            "usage": usage_json(usage),
        }
        headers = constitution_headers(constitution.ref, constitution.digest)
        return json_response(reply, {**policy_headers(policy), **headers})

    return await perform(request, work)


@critiques.post("/v1/revisions", openapi_extra=takes(RevisionRequest))
async def revise_answer(request: Request) -> Response:
    """Answer a conversation, critique and revise the answer, and give the whole transcript."""
    body = await read(request, RevisionRequest)
    answerer = answerer_of(request, body.model)
    check_limit(answerer(), body.max_tokens, "max_tokens")
    constitution = await services(request).constitution(body.constitution)

    async def work() -> Response:
        transcript = await run_loop(
            request,
            answerer(),
            to_conversation(body.messages),
            constitution,
            revisions=body.revisions,
            principles=body.principles,
            sampling=_sampling(body),
        )
        reply = revision(f"rev-{request_info(request).id}", transcript)
        return json_response(reply, loop_headers(transcript))

    return await perform(request, work)


def _sampling(body: CritiqueRequest | RevisionRequest) -> Sampling:
    return replace(body.sampling(max_tokens=body.max_tokens or 512, logprobs=None))
