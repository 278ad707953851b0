"""`/v1/constitutions`: what there is, one version's principles, and how two versions differ."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.constitution.diff import compare
from cai.constitution.schema import Constitution
from cai.constitution.store import Summary
from cai.errors import InputError
from cai.evaluate.constitution_text import diff_dict
from cai.registry import did_you_mean
from server.conditions import etag, is_unchanged
from server.deps import services
from server.paging import PARAMETERS, page
from server.routes.table import path_parameters, query_parameters, router
from server.schemas.constitutions import constitution_json
from server.schemas.replies import constitution_headers, json_response

constitutions = router("constitutions")

_SIDES = {
    "from": "A version: a number, or draft; the newest release when left out.",
    "to": "Another; draft when left out.",
}
_DIFF = {
    "parameters": path_parameters("name")["parameters"] + query_parameters(**_SIDES)["parameters"]
}


@constitutions.get("/v1/constitutions", openapi_extra=query_parameters(**PARAMETERS))
async def list_constitutions(request: Request) -> Response:
    """Every version of every constitution; a broken one says what is wrong with it."""
    store = services(request).store
    found = await asyncio.to_thread(store.list)
    return json_response(page(request, [_listed(one, store.root) for one in found]))


@constitutions.get("/v1/constitutions/{name}", openapi_extra=path_parameters("name"))
async def show_newest(request: Request) -> Response:
    """The newest release of a constitution."""
    name = request.path_params["name"]
    return _shown(request, await services(request).constitution(name))


@constitutions.get("/v1/constitutions/{name}/diff", openapi_extra=_DIFF)
async def show_diff(request: Request) -> Response:
    """What changed between two versions, principle by principle, with each text's words."""
    sides = dict(request.query_params)
    for side in sides:
        if side not in _SIDES:
            raise InputError(
                f"unknown parameter '{side[:60]}'{did_you_mean(side[:60], _SIDES)}; "
                "there are: from, to",
                param=side[:60],
            )
    name = request.path_params["name"]
    old = f"{name}@{sides['from']}" if "from" in sides else name
    service = services(request)
    before = await service.constitution(old)
    after = await service.constitution(f"{name}@{sides.get('to', 'draft')}")
    body = await asyncio.to_thread(lambda: diff_dict(compare(before, after)))
    return json_response({"object": "constitution.diff", **body})


@constitutions.get(
    "/v1/constitutions/{name}/{version}", openapi_extra=path_parameters("name", "version")
)
async def show_version(request: Request) -> Response:
    """One release of a constitution, by its number."""
    name, version = request.path_params["name"], request.path_params["version"]
    return _shown(request, await services(request).constitution(f"{name}@{version}"))


def _shown(request: Request, constitution: Constitution) -> Response:
    headers = constitution_headers(constitution.ref, constitution.digest)
    headers |= etag(constitution.digest)
    if is_unchanged(request, constitution.digest):
        return Response(status_code=304, headers=headers)
    return json_response(constitution_json(constitution), headers)


def _listed(summary: Summary, root: Path) -> dict[str, Any]:
    told = {key: value for key, value in asdict(summary).items() if value is not None}
    if summary.error is not None:
        told["error"] = summary.error.removeprefix(f"{root}/")  # the server's folders are its own
    return {"id": summary.ref, "object": "constitution", **told}
