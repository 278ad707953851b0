"""`/v1/policies`, for changing what answers: promote, verify on the engine, roll back."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.policy.records import PolicyRecord
from server.context import request_info
from server.deps import services
from server.routes.table import path_parameters, router, takes
from server.schemas.policies import PolicyChange, policy_json
from server.schemas.replies import json_response
from server.work import perform, read_or_default

policies_live = router("policies")

_ID = path_parameters("id")


@policies_live.post("/v1/policies/rollback", openapi_extra=takes(PolicyChange))
async def roll_back(request: Request) -> Response:
    """Make live what was live before; `policy` is null when that is the engine's own model."""
    change = await read_or_default(request, PolicyChange)
    service = services(request)

    async def work() -> Response:
        reason = change.reason or "rolled back"
        record = await service.live.rollback(reason=reason, actor=_actor(request))
        return json_response(_told(record, service.live.engine("live").identity().model))

    return await perform(request, work, in_queue=False)


@policies_live.post("/v1/policies/{id}/promote", openapi_extra={**_ID, **takes(PolicyChange)})
async def promote(request: Request) -> Response:
    """Verify a policy, load it into the running engine, and make it live; or reject it."""
    change = await read_or_default(request, PolicyChange)
    service = services(request)

    async def work() -> Response:
        reason = change.reason or "promoted"
        record = await service.live.promote(
            request.path_params["id"], reason=reason, actor=_actor(request)
        )
        return json_response(policy_json(record))

    return await perform(request, work, in_queue=False)


@policies_live.post("/v1/policies/{id}/verify", openapi_extra={**_ID, **takes(PolicyChange)})
async def verify(request: Request) -> Response:
    """Try a policy on the running engine. An adapter that passes answers under its id."""
    await read_or_default(request, PolicyChange)
    service = services(request)

    async def work() -> Response:
        record = await service.live.verify(request.path_params["id"], actor=_actor(request))
        return json_response(policy_json(record))

    return await perform(request, work, in_queue=False)


def _actor(request: Request) -> str:
    return request_info(request).key_name or "local"


def _told(record: PolicyRecord | None, live: str) -> dict[str, Any]:
    return {
        "object": "rollback",
        "live": live,
        "policy": None if record is None else policy_json(record),
    }
