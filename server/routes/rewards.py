"""`POST /v1/rewards`: scores of the reward model, for trainers that take a remote one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cai.types import Usage
from server.deps import count, services
from server.routes.table import router, takes
from server.schemas.replies import json_response, policy_headers, usage_json
from server.schemas.rewards import RewardRequest
from server.work import perform, read

rewards = router("rewards")


@rewards.post("/v1/rewards", openapi_extra=takes(RewardRequest))
async def score_answers(request: Request) -> Response:
    """One reward per answer, in order: higher is better, and only differences have a meaning."""
    body = await read(request, RewardRequest)
    model = services(request).reward()

    async def work() -> Response:
        scored = await model.score_async(body.to_items())
        usage = Usage(prompt_tokens=scored.num_tokens)
        count(request, usage)
        reply = {"rewards": scored.rewards, "model": model.name, "usage": usage_json(usage)}
        return json_response(reply, policy_headers(model.name))

    return await perform(request, work)
