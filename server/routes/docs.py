"""`/docs` and `/openapi.json`: the calls, on one page without scripts or foreign assets."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from cai.jobs.spec import JobSpec
from server.routes.table import ACCESS, REF, router
from server.schemas.chat import ChatRequest
from server.schemas.completions import CompletionRequest
from server.schemas.constitutions import DraftUpdate, ReleaseCreate
from server.schemas.internal import GenerateRequest, ScoreRequest, SleepRequest
from server.schemas.loop import CritiqueRequest, RevisionRequest
from server.schemas.policies import FeedbackCreate, PolicyChange, TrafficUpdate
from server.schemas.preferences import PreferenceRequest
from server.schemas.replies import json_response
from server.schemas.review import DecisionCreate, ReviewImport
from server.schemas.rewards import RewardRequest

docs = router("docs")

_BODIES = (
    ChatRequest,
    CompletionRequest,
    CritiqueRequest,
    RevisionRequest,
    PreferenceRequest,
    RewardRequest,
    DraftUpdate,
    ReleaseCreate,
    FeedbackCreate,
    PolicyChange,
    TrafficUpdate,
    ReviewImport,
    DecisionCreate,
    JobSpec,
    GenerateRequest,
    ScoreRequest,
    SleepRequest,
)
_POLICY = {
    "content-security-policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font: 0.95em ui-monospace, monospace; }
td, th { text-align: left; vertical-align: top; padding: 0.3rem 1rem 0.3rem 0; }
section { border-top: 1px solid #ccc; margin-top: 1.5rem; }
"""


@docs.get("/docs")
async def show_page(request: Request) -> Response:
    """This page."""
    return Response(_page(openapi(request.app)), headers=_POLICY, media_type="text/html")


@docs.get("/docs/style.css")
async def show_style(request: Request) -> Response:
    """How the page looks."""
    return Response(_STYLE, media_type="text/css")


@docs.get("/openapi.json")
async def show_schema(request: Request) -> Response:
    """The calls for machines."""
    return json_response(openapi(request.app))


def openapi(app: FastAPI) -> dict[str, Any]:
    """OpenAPI's description of an app, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, bodies = models_json_schema([(m, "validation") for m in _BODIES], ref_template=REF)
        schema.setdefault("components", {}).setdefault("schemas", {}).update(bodies["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema


def _page(schema: dict[str, Any]) -> str:
    calls = [
        _call(method.upper(), path, operation, schema)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(schema['info']['title'])}</title>"
        '<link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<h1>{escape(schema['info']['title'])}</h1>"
        '<p>For machines: <a href="/openapi.json">openapi.json</a></p>'
        f"{''.join(calls)}</body></html>"
    )


def _call(method: str, path: str, operation: dict[str, Any], schema: dict[str, Any]) -> str:
    call = f"{method} {path}"
    access = ACCESS.get(call) or ACCESS[call.replace("}", ":path}")]
    fields = "".join(_field(name, told) for name, told in _body(operation, schema).items())
    table = f"<table><tr><th>field</th><th></th></tr>{fields}</table>" if fields else ""
    return (
        f"<section><h2><code>{method} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description', ''))} Access: {access}.</p>{table}</section>"
    )


def _body(operation: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return {}
    model = schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    properties: dict[str, Any] = model["properties"]
    return properties


def _field(name: str, told: dict[str, Any]) -> str:
    description = escape(told.get("description", ""))
    return f"<tr><td><code>{escape(name)}</code></td><td>{description}</td></tr>"
