"""Who may call what: one line per call. A route that is not here cannot be made.

`open` needs no key, `any` needs one of whatever scope; the others are scopes, and `admin` has
them all. Start from `Route`, the class of every router's routes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from server.auth import Access, authorise
from server.deps import services

ACCESS: Mapping[str, Access] = {
    "POST /v1/chat/completions": "infer",
    "POST /v1/completions": "infer",
    "GET /v1/models": "infer",
    "GET /v1/models/{model_id:path}": "infer",
    "POST /v1/critiques": "infer",
    "POST /v1/revisions": "infer",
    "POST /v1/preferences": "infer",
    "POST /v1/rewards": "infer",
    "GET /v1/constitutions": "infer",
    "GET /v1/constitutions/{name}": "infer",
    "GET /v1/constitutions/{name}/draft": "infer",
    "PUT /v1/constitutions/{name}/draft": "admin",
    "POST /v1/constitutions/{name}/releases": "admin",
    "GET /v1/constitutions/{name}/diff": "infer",
    "GET /v1/constitutions/{name}/{version}": "infer",
    "GET /v1/policies": "any",
    "GET /v1/policies/{id}": "any",
    "POST /v1/policies/rollback": "admin",
    "POST /v1/policies/{id}/promote": "admin",
    "POST /v1/policies/{id}/verify": "admin",
    "GET /v1/traffic": "any",
    "PUT /v1/traffic": "admin",
    "POST /v1/feedback": "review",
    "GET /v1/review/next": "review",
    "POST /v1/review/{id}/decision": "review",
    "GET /v1/review/stats": "review",
    "POST /v1/review/import": "review",
    "GET /v1/review/export": "review",
    "POST /v1/files": "train",
    "GET /v1/files": "train",
    "GET /v1/files/{file_id}": "train",
    "GET /v1/files/{file_id}/content": "train",
    "POST /v1/jobs": "train",
    "GET /v1/jobs": "train",
    "GET /v1/jobs/{job_id}": "train",
    "DELETE /v1/jobs/{job_id}": "train",
    "GET /v1/jobs/{job_id}/events": "train",
    "POST /internal/generate": "admin",
    "POST /internal/score": "admin",
    "POST /internal/sleep": "admin",
    "POST /internal/wake": "admin",
    "GET /internal/identity": "admin",
    "GET /metrics": "any",
    "GET /healthz": "open",
    "GET /readyz": "open",
    "GET /docs": "open",
    "GET /docs/style.css": "open",
    "GET /openapi.json": "open",
}

REF = "#/components/schemas/{model}"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(APIRoute):
    """A route that checks the caller's key and then calls its handler with the request.

    FastAPI's resolution of dependencies is passed over: handlers read their own bodies once, as
    bytes, and there is nothing to resolve.
    """

    def get_route_handler(self) -> Handler:
        """The handler behind the check; KeyError for a route that the table lacks."""
        handler: Handler = self.endpoint
        (method,) = self.methods
        access = ACCESS[f"{method} {self.path}"]

        async def authorised(request: Request) -> Response:
            authorise(request, access, services(request).keyring)
            return await handler(request)

        return authorised


def router(tag: str) -> APIRouter:
    """A router of guarded routes."""
    return APIRouter(route_class=Route, tags=[tag])


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`: the call's body."""
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def path_parameters(*names: str) -> dict[str, Any]:
    """For `openapi_extra`: the call's parameters in its path."""
    return {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    }


def query_parameters(**descriptions: str) -> dict[str, Any]:
    """For `openapi_extra`: the call's optional parameters after the question mark."""
    return {
        "parameters": [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in descriptions.items()
        ]
    }
