"""`/v1/files`: prompts and datasets in, artifacts of runs out, by id."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from cai.jobs.files import FileRecord, FileStore
from server.deps import services
from server.paging import PARAMETERS, page
from server.routes.jobs import actor_of
from server.routes.table import path_parameters, query_parameters, router
from server.schemas.replies import json_response
from server.uploads import receive_file

files = router("files")

_QUERY = {
    "filename": "The file's name; its ending says the format: .jsonl, .txt, .json, .parquet, .gz.",
    "purpose": "What it is for, a word of yours; prompts when left out.",
}
_FILE = path_parameters("file_id")


@files.post("/v1/files", openapi_extra=query_parameters(**_QUERY))
async def upload_file(request: Request) -> Response:
    """Keep a file: its bytes as the body with ?filename=, or OpenAI's form with the part `file`.

    The same content again is the same file.
    """
    store = await _store(request)
    return json_response(_shown(await receive_file(request, store, actor=actor_of(request))))


@files.get("/v1/files", openapi_extra=query_parameters(**PARAMETERS))
async def list_files(request: Request) -> Response:
    """The files that were uploaded, oldest first."""
    store = await _store(request)
    found = await asyncio.to_thread(store.records)
    return json_response(page(request, [_shown(record) for record in found]))


@files.get("/v1/files/{file_id}", openapi_extra=_FILE)
async def show_file(request: Request) -> Response:
    """What is known of an uploaded file."""
    store = await _store(request)
    record = await asyncio.to_thread(store.get, request.path_params["file_id"])
    return json_response(_shown(record))


@files.get("/v1/files/{file_id}/content", openapi_extra=_FILE)
async def read_file(request: Request) -> Response:
    """The bytes of an uploaded file, or of a run's artifact such as `toy.rows.jsonl`."""
    store, id = await _store(request), request.path_params["file_id"]
    path = await asyncio.to_thread(store.path, id)
    return FileResponse(path, media_type="application/octet-stream", filename=id)


async def _store(request: Request) -> FileStore:
    return await services(request).stores.run(lambda stores: stores.jobs.place.files)


def _shown(record: FileRecord) -> dict[str, Any]:
    """OpenAI's form, with the digest beside it."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size_bytes,
        "created_at": int(datetime.fromisoformat(record.created_at).timestamp()),
        "filename": record.filename,
        "purpose": record.purpose,
        "digest": record.digest,
    }
