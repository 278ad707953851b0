"""`/v1/constitutions`, for reading: what there is, and one version's principles."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.constitution.schema import Constitution
from cai.constitution.store import Summary
from server.deps import services
from server.paging import PARAMETERS, page
from server.routes.table import path_parameters, query_parameters, router
from server.schemas.replies import constitution_headers, json_response

constitutions = router("constitutions")


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
    return _shown(await services(request).constitution(name))


@constitutions.get(
    "/v1/constitutions/{name}/{version}", openapi_extra=path_parameters("name", "version")
)
async def show_version(request: Request) -> Response:
    """One version of a constitution: a number, or `draft`."""
    name, version = request.path_params["name"], request.path_params["version"]
    return _shown(await services(request).constitution(f"{name}@{version}"))


def _shown(constitution: Constitution) -> Response:
    reply = {
        "id": constitution.ref,
        "object": "constitution",
        "ref": constitution.ref,
        "digest": constitution.digest,
        **constitution.model_dump(mode="json", exclude_none=True, exclude={"format"}),
    }
    return json_response(reply, constitution_headers(constitution.ref, constitution.digest))


def _listed(summary: Summary, root: Path) -> dict[str, Any]:
    told = {key: value for key, value in asdict(summary).items() if value is not None}
    if summary.error is not None:
        told["error"] = summary.error.removeprefix(f"{root}/")  # the server's folders are its own
    return {"id": summary.ref, "object": "constitution", **told}
