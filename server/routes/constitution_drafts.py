"""`/v1/constitutions/{name}/draft` and `/releases`: edit a draft, and freeze it.

Two who edit one draft cannot overwrite each other: a draft is replaced only by who shows the tag of
what is there. Who saved and released what is kept in `logs/constitutions.jsonl` of the home folder.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai.constitution.drafts import Draft, read_draft, save_draft
from cai.constitution.lint import Finding, lint_loaded, open_findings
from cai.constitution.release import release
from cai.constitution.schema import Constitution
from cai.evaluate.constitution_history import write_changelog
from cai.files import append_json_line
from cai.yamlguard import load_yaml
from server.conditions import etag, if_match, is_unchanged
from server.context import request_info
from server.deps import Services, services
from server.routes.table import path_parameters, router, takes
from server.schemas.constitutions import DraftUpdate, ReleaseCreate, constitution_json
from server.schemas.replies import constitution_headers, json_response
from server.work import perform, read, read_or_default

LOG = "constitutions.jsonl"

constitution_drafts = router("constitutions")
logger = logging.getLogger(__name__)

_NAME = path_parameters("name")


@constitution_drafts.get("/v1/constitutions/{name}/draft", openapi_extra=_NAME)
async def show_draft(request: Request) -> Response:
    """The draft: its content, its YAML as `text`, and its tag as ETag.

    A draft whose file is broken has its last good content, and says what is wrong in `error`.
    """
    name, service = request.path_params["name"], services(request)
    draft = await asyncio.to_thread(read_draft, service.store, name)
    if is_unchanged(request, draft.tag):
        return Response(status_code=304, headers=etag(draft.tag))
    constitution = draft.constitution or await service.constitution(f"{name}@draft")
    return _shown(draft, constitution, [])


@constitution_drafts.put(
    "/v1/constitutions/{name}/draft", openapi_extra={**_NAME, **takes(DraftUpdate)}
)
async def put_draft(request: Request) -> Response:
    """Replace the draft that has the tag in If-Match, or begin one where there is none.

    The answer has what the linter finds in it; what is no valid draft is refused and not saved.
    """
    body = await read(request, DraftUpdate)
    service, name = services(request), request.path_params["name"]
    check = if_match(request, required=True)
    draft, findings = await asyncio.to_thread(_save, service, name, body, check)
    assert draft.constitution is not None, "what was saved is valid"
    await _log(request, "draft", draft.constitution)
    return _shown(draft, draft.constitution, findings)


@constitution_drafts.post(
    "/v1/constitutions/{name}/releases", openapi_extra={**_NAME, **takes(ReleaseCreate)}
)
async def create_release(request: Request) -> Response:
    """Freeze the draft as the next release. With If-Match, only the draft that has the tag."""
    await read_or_default(request, ReleaseCreate)
    service, name = services(request), request.path_params["name"]
    check = if_match(request, required=False)

    async def work() -> Response:
        released = await asyncio.to_thread(_release, service, name, check)
        await _log(request, "release", released)
        headers = constitution_headers(released.ref, released.digest) | etag(released.digest)
        return json_response(constitution_json(released), headers)

    return await perform(request, work, in_queue=False)


def _save(
    service: Services, name: str, body: DraftUpdate, check: Callable[[str | None], None]
) -> tuple[Draft, list[Finding]]:
    store = service.store
    draft = save_draft(store, name, text=body.text, content=body.constitution, check=check)
    path = store.path(name, "draft")
    return draft, open_findings(lint_loaded(load_yaml(draft.text, path=path), path, store))


def _release(service: Services, name: str, check: Callable[[str | None], None]) -> Constitution:
    store = service.store
    released = release(store, name, check=lambda: check(read_draft(store, name).tag))
    write_changelog(store, name)
    return released


def _shown(draft: Draft, constitution: Constitution, findings: list[Finding]) -> Response:
    body: dict[str, Any] = {
        **constitution_json(constitution),
        "text": draft.text,
        "findings": [_finding(one) for one in findings],
    }
    if draft.error is not None:
        body["error"] = draft.error
    headers = constitution_headers(constitution.ref, constitution.digest) | etag(draft.tag)
    return json_response(body, headers)


def _finding(finding: Finding) -> dict[str, Any]:
    return {key: value for key, value in finding.as_dict().items() if key != "path"}


async def _log(request: Request, what: str, constitution: Constitution) -> None:
    """Keep who did it, beside a log line without the name of the key."""
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "actor": request_info(request).key_name or "local",
        "what": what,
        "ref": constitution.ref,
        "digest": constitution.digest,
    }
    path = services(request).settings.home / "logs" / LOG
    await asyncio.to_thread(append_json_line, path, entry)
    logger.info("constitution %s: %s saved, digest %s", constitution.ref, what, constitution.digest)
