"""`/v1/traffic`: the A/B split of `live` traffic, and what people said of each arm."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.context import request_info
from server.deps import LIVE, services
from server.routes.table import router, takes
from server.schemas.policies import TrafficUpdate
from server.schemas.replies import json_response
from server.stores import Stores
from server.work import read

traffic = router("policies")


@traffic.get("/v1/traffic")
async def show_traffic(request: Request) -> Response:
    """The split, who set it and when, and what people said since of the answers of each arm."""
    return json_response(await services(request).stores.run(_told))


@traffic.put("/v1/traffic", openapi_extra=takes(TrafficUpdate))
async def set_traffic(request: Request) -> Response:
    """Set the split; an empty one gives all traffic to the live policy."""
    body = await read(request, TrafficUpdate)
    actor = request_info(request).key_name or "local"
    service = services(request)

    def work(stores: Stores) -> dict[str, Any]:
        find = stores.policies.get
        from cai.policy.traffic import check_split  # needs what the database needs

        check_split(body.split, find)
        now = stores.traffic.current().split
        grown = {id for id, share in body.split.items() if share > now.get(id, 0.0)}
        if grown:  # an arm that does not answer would silently be the live policy
            service.live.check_served(grown)
        stores.traffic.set(body.split, actor=actor)
        return _told(stores)

    told = await service.stores.run(work)
    service.live.split = dict(body.split)
    return json_response(told)


def _told(stores: Stores) -> dict[str, Any]:
    setting = stores.traffic.current()
    said = stores.feedback.results("arm", since=setting.at)
    shares = {**setting.split, LIVE: 100.0 - sum(setting.split.values())}
    return {
        "object": "traffic",
        "split": setting.split,
        "set_at": setting.at,
        "set_by": setting.actor,
        "arms": [
            {
                "arm": arm,
                "percent": shares.get(arm, 0.0),
                "feedback": said[arm].model_dump() if arm in said else None,
            }
            for arm in {**shares, **said}
        ],
    }
