"""`/v1/review`: the blind queue of answers for people, and what came of it."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.errors import InputError
from cai.registry import choices
from cai.review.records import Given
from server.deps import services
from server.paging import PARAMETERS, check_query, cursor, listed
from server.routes.jobs import actor_of
from server.routes.table import path_parameters, query_parameters, router, takes
from server.schemas.replies import json_response
from server.schemas.review import DecisionCreate, ReviewImport, decision_json, shown_json
from server.stores import Stores
from server.work import perform, read

review = router("review")

_FORMATS = ("jsonl", "annotated-pairs")
_FORMAT = {"format": "jsonl pages through the items; annotated-pairs is one document of all."}
_RATER = {"rater": "Who of those that share a key; the key's name alone when left out."}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@review.get("/v1/review/next", openapi_extra=query_parameters(**_RATER))
async def next_item(request: Request) -> Response:
    """The item that the caller is to look at, theirs for a while; null when there is none."""
    check_query(request, _RATER)
    rater = _rater(request, request.query_params.get("rater"))
    shown = await services(request).stores.run(lambda stores: stores.review.next(rater))
    item = None if shown is None else shown_json(shown)
    return json_response({"object": "review.next", "rater": rater, "item": item})


@review.post(
    "/v1/review/{id}/decision", openapi_extra={**path_parameters("id"), **takes(DecisionCreate)}
)
async def decide(request: Request) -> Response:
    """Say which side is better, that it is a tie, or a rating; skip passes the item on."""
    body = await read(request, DecisionCreate)
    rater = _rater(request, body.rater)
    given = Given(**body.model_dump(exclude={"rater"}))
    id = request.path_params["id"]

    async def work() -> Response:
        made = await services(request).stores.run(
            lambda stores: stores.review.decide(id, rater, given)
        )
        return json_response(decision_json(made))

    return await perform(request, work, in_queue=False)


@review.get("/v1/review/stats")
async def show_stats(request: Request) -> Response:
    """How far the queue is, and how far raters agree with each other and with the judge."""

    def work(stores: Stores) -> dict[str, Any]:
        queue = stores.review
        from cai.review.figures import figures

        return {"object": "review.stats", "queue": queue.counts(), **figures(queue.reviewed())}

    return json_response(await services(request).stores.run(work))


@review.post("/v1/review/import", openapi_extra=takes(ReviewImport))
async def import_items(request: Request) -> Response:
    """Put the pairs or the answers of a file into the queue; those that are there stay as they are.

    The rest of its lines is told by reason.
    """
    body = await read(request, ReviewImport)
    actor = actor_of(request)

    def take(stores: Stores) -> dict[str, Any]:
        path = stores.jobs.place.files.path(body.file)
        from cai.review.importing import import_file

        how = {**body.model_dump(exclude={"file"}), "source": body.file, "actor": actor}
        try:
            return import_file(stores.review, path, **how)
        except InputError as exc:  # the client knows the file by its id alone
            raise InputError(exc.message.replace(str(path), body.file), param="file") from exc

    async def work() -> Response:
        told = await services(request).stores.run(take)
        return json_response({"object": "review.import", "file": body.file, **told})

    return await perform(request, work, in_queue=False)


@review.get("/v1/review/export", openapi_extra=query_parameters(**PARAMETERS, **_FORMAT))
async def export(request: Request) -> Response:
    """Every item with a decision: who answered, what the judge said, what each rater chose."""
    limit, after = cursor(request, *_FORMAT)
    format = request.query_params.get("format", "jsonl")
    if format not in _FORMATS:
        raise InputError(
            f"no format '{format[:40]}'{choices(format[:40], _FORMATS)}", param="format"
        )

    def work(stores: Stores) -> dict[str, Any]:
        queue = stores.review
        from cai.policy.registry_rows import time_now
        from cai.review.exporting import annotated_document, review_line

        if format == "annotated-pairs":
            return annotated_document(queue.reviewed(), created_at=time_now())
        page = queue.page(after=after, limit=limit)
        return listed([review_line(one) for one in page.records], has_more=page.has_more)

    return json_response(await services(request).stores.run(work))


def _rater(request: Request, name: str | None) -> str:
    """Who decides: the key, and the one who is named of those that share it."""
    if name is None:
        return actor_of(request)
    if not _NAME.fullmatch(name):
        raise InputError(
            "rater: use up to 64 small letters, digits, '.', '_' and '-'", param="rater"
        )
    return f"{actor_of(request)}/{name}"
