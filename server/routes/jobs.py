"""`/v1/jobs`: long work is queued here and done by workers, never in this process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, get_args

from starlette.requests import Request
from starlette.responses import Response

from cai.errors import InputError
from cai.jobs.spec import JobRecord, JobSpec, RequestKey, State
from cai.registry import choices
from server.context import request_info
from server.deps import services
from server.job_stream import LastingStream
from server.paging import PARAMETERS, cursor, listed
from server.routes.table import path_parameters, query_parameters, router, takes
from server.schemas.replies import json_response
from server.streaming import event
from server.validation import parse_json
from server.work import idempotency, read_body

if TYPE_CHECKING:
    from cai.jobs.store import JobStore

jobs = router("jobs")

_LOOK_EVERY_S = 0.5
_STATES: tuple[State, ...] = get_args(State)
_STATE = {"state": f"Only those in this state: {', '.join(_STATES)}."}
_JOB = path_parameters("job_id")


@jobs.post("/v1/jobs", openapi_extra=takes(JobSpec))
async def submit_job(request: Request) -> Response:
    """Queue a job; the same Idempotency-Key gives the same job, after a restart too."""
    raw = parse_json(await read_body(request))
    actor, keyed = actor_of(request), _keyed(request)
    record = await services(request).stores.run(
        lambda stores: stores.jobs.submit(raw, actor=actor, request=keyed)
    )
    return json_response(_shown(record))


@jobs.get("/v1/jobs", openapi_extra=query_parameters(**PARAMETERS, **_STATE))
async def list_jobs(request: Request) -> Response:
    """Jobs, newest first."""
    limit, after = cursor(request, *_STATE)
    state = _state(request.query_params.get("state"))
    store = await _store(request)
    found = await asyncio.to_thread(store.page, state=state, after=after, limit=limit + 1)
    shown = [_shown(one) for one in found[:limit]]
    return json_response(listed(shown, has_more=len(found) > limit))


@jobs.get("/v1/jobs/{job_id}", openapi_extra=_JOB)
async def show_job(request: Request) -> Response:
    """One job: its state, its progress, its result."""
    store = await _store(request)
    return json_response(_shown(await asyncio.to_thread(store.get, request.path_params["job_id"])))


@jobs.delete("/v1/jobs/{job_id}", openapi_extra=_JOB)
async def cancel_job(request: Request) -> Response:
    """Cancel a job: a queued one at once, of a running one every process is stopped."""
    store, id = await _store(request), request.path_params["job_id"]
    record = await asyncio.to_thread(store.cancel, id, actor=actor_of(request))
    return json_response(_shown(record))


@jobs.get("/v1/jobs/{job_id}/events", openapi_extra=_JOB)
async def watch_job(request: Request) -> Response:
    """What happens to a job, as server-sent events; Last-Event-ID goes on after that one."""
    store, id, after = await _store(request), request.path_params["job_id"], _last_event(request)
    record = await asyncio.to_thread(store.get, id)
    if after and record.is_over and not await asyncio.to_thread(store.events, id, after=after):
        return Response(status_code=204)  # so that a browser does not come back
    return LastingStream(request, _events(request, store, id, after))


def actor_of(request: Request) -> str:
    """Who asks, for what is written down: the name of the key, or `local` where there are none."""
    return request_info(request).key_name or "local"


async def _store(request: Request) -> JobStore:
    return await services(request).stores.run(lambda stores: stores.jobs.store)


async def _events(
    request: Request, store: JobStore, id: str, after: int
) -> AsyncGenerator[bytes, None]:
    """Every event from `after` on, until the job is over or the server stops."""
    while True:
        record = await asyncio.to_thread(store.get, id)  # before the events: none is missed
        for one in await asyncio.to_thread(store.events, id, after=after):
            after = one.seq
            told = one.model_dump(mode="json", exclude={"seq", "type"})
            yield event({**told, "type": one.type}, name=one.type, id=one.seq)
        if record.is_over or services(request).is_stopping:
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _keyed(request: Request) -> RequestKey | None:
    """The request's Idempotency-Key with its caller, as a digest; kept with the job."""
    keyed = idempotency(request)
    if keyed is None:
        return None
    return RequestKey(f"sha256:{hashlib.sha256(keyed.key.encode()).hexdigest()}", keyed.digest)


def _last_event(request: Request) -> int:
    given = request_info(request).headers.get(b"last-event-id", b"0").decode("latin-1")
    if given.isascii() and given.isdigit() and len(given) <= 18:
        return int(given)
    raise InputError(
        f"Last-Event-ID: {given[:20]!r} is no id of an event; leave it out to get them all",
        param="Last-Event-ID",
    )


def _state(name: str | None) -> State | None:
    if name is None:
        return None
    for state in _STATES:
        if state == name:
            return state
    raise InputError(f"no state {name[:40]!r}{choices(name[:40], _STATES)}", param="state")


def _shown(record: JobRecord) -> dict[str, Any]:
    return {"object": "job", **record.model_dump(mode="json")}
