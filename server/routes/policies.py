"""`/v1/policies`, for reading: what is registered, and one policy's events and lineage."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.policy.records import STATES, parse_state
from server.deps import services
from server.paging import PARAMETERS, cursor, listed
from server.routes.table import path_parameters, query_parameters, router
from server.schemas.policies import policy_details, policy_json
from server.schemas.replies import json_response
from server.stores import Stores

policies = router("policies")

_STATE = {"state": f"Only those that are {', '.join(STATES[:-1])} or {STATES[-1]}."}


@policies.get("/v1/policies", openapi_extra=query_parameters(**PARAMETERS, **_STATE))
async def list_policies(request: Request) -> Response:
    """Every registered policy, newest first."""
    limit, after = cursor(request, "state")
    state = parse_state(request.query_params.get("state"))
    page = await services(request).stores.run(
        lambda stores: stores.policies.list(state, after=after, limit=limit)
    )
    shown = [policy_json(record) for record in page.records]
    return json_response(listed(shown, has_more=page.has_more))


@policies.get("/v1/policies/{id}", openapi_extra=path_parameters("id"))
async def show_policy(request: Request) -> Response:
    """One policy, by its id or as `live`: its events, its data, constitutions and parents."""
    asked = request.path_params["id"]

    def work(stores: Stores) -> dict[str, Any]:
        registry = stores.policies
        record = registry.get(asked)
        return policy_details(record, registry.events(record.id), registry.lineage(record.id))

    return json_response(await services(request).stores.run(work))
