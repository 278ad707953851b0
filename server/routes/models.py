"""`/v1/models`: `live`, and every policy that can be served beside it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.engine.base import Engine
from cai.errors import NotFoundError
from server.deps import LIVE, services
from server.paging import PARAMETERS, page
from server.routes.table import path_parameters, query_parameters, router
from server.schemas.replies import json_response, policy_headers

models = router("models")


@models.get("/v1/models", openapi_extra=query_parameters(**PARAMETERS))
async def list_models(request: Request) -> Response:
    """The models that a request may name."""
    return json_response(page(request, _served(request)))


@models.get("/v1/models/{model_id:path}", openapi_extra=path_parameters("model_id"))
async def show_model(request: Request) -> Response:
    """One model."""
    asked = request.path_params["model_id"]
    for model in _served(request):
        if model["id"] == asked:
            return json_response(model, policy_headers(model["cai"]["policy"]))
    raise NotFoundError(f"no model '{asked[:100]}'; GET /v1/models lists them", param="model")


def _served(request: Request) -> list[dict[str, Any]]:
    service = services(request)
    live = service.live
    engines = {name: live.engine(name if name != LIVE else live.name) for name in live.servable()}
    return [_model(name, engine, service.started_at) for name, engine in engines.items()]


def _model(name: str, engine: Engine, created: int) -> dict[str, Any]:
    identity = engine.identity()
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "cai",
        "max_model_len": identity.max_context,
        "cai": {"policy": identity.model, "digest": identity.digest, "engine": identity.engine},
    }
