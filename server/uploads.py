"""How a file comes in: piece by piece to the disk, within the limits of size and time.

The body is the file itself, with its name in the query; or a form as OpenAI's clients send it,
where the package that reads forms is installed. Start from `receive_file`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message

from cai.errors import InputError
from cai.jobs.files import FileRecord, FileStore, Upload
from cai.registry import did_you_mean
from server.context import request_info
from server.deps import services
from server.errors import ClientGoneError, HttpError

_PURPOSE = "prompts"
_FORM = b"multipart/form-data"
_FORM_BYTES = 65_536  # of a form around its file
_FIELDS = ("filename", "purpose")
_PIECE_BYTES = 1 << 20
_PATIENCE = 2  # times the largest file, read before the connection is cut

Pieces = AsyncGenerator[bytes, None]


class _Named(NamedTuple):
    filename: str
    purpose: str


async def receive_file(request: Request, store: FileStore, *, actor: str) -> FileRecord:
    """Keep the file that a request carries. Raises HttpError 408, 413 or 415, or InputError."""
    kind = request_info(request).headers.get(b"content-type", b"").lower()
    _check_query(request)
    if kind.partition(b";")[0].strip() == _FORM:
        return await _receive_form(request, store, actor)
    named = _Named(
        request.query_params.get("filename", ""), request.query_params.get("purpose", _PURPOSE)
    )
    limit = services(request).settings.max_file_bytes
    async with aclosing(_pieces(request, limit)) as pieces:
        return await _keep(store, named, pieces, actor)


async def _receive_form(request: Request, store: FileStore, actor: str) -> FileRecord:
    """The part `file` of a form, which is on the disk, or in memory while small, by then."""
    if importlib.util.find_spec("python_multipart") is None:
        raise HttpError(
            415,
            "forms are not read here; send the file's bytes as the body, with ?filename=",
            code="unsupported_media_type",
        )
    limit = services(request).settings.max_file_bytes + _FORM_BYTES
    async with aclosing(_pieces(request, limit)) as pieces:
        parser = MultiPartParser(
            request.headers, pieces, max_files=1, max_fields=8, max_part_size=1024
        )
        try:
            form = await parser.parse()
        except MultiPartException as exc:
            raise InputError(f"the form cannot be read: {exc.message}") from None
    try:
        file, purpose = form.get("file"), form.get("purpose", _PURPOSE)
        if not isinstance(file, UploadFile) or not isinstance(purpose, str):
            raise InputError("the form needs a part 'file' with a file name", param="file")
        async with aclosing(_pieces_of(file)) as pieces:
            return await _keep(store, _Named(file.filename or "", purpose), pieces, actor)
    finally:
        await form.close()


async def _keep(store: FileStore, named: _Named, pieces: Pieces, actor: str) -> FileRecord:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", named.purpose):
        raise InputError(
            "purpose: a word of up to 32 small letters, digits, '_' and '-'", param="purpose"
        )
    begin = store.begin(named.filename, purpose=named.purpose, actor=actor)
    upload: Upload = await asyncio.to_thread(begin.__enter__)
    try:
        async for piece in pieces:
            await asyncio.to_thread(upload.write, piece)
        return await asyncio.to_thread(upload.finish)
    finally:
        await asyncio.to_thread(begin.__exit__, None, None, None)


async def _pieces(request: Request, limit: int) -> Pieces:
    """The body as it comes; each piece must come within body_timeout_s.

    What is too much is read and thrown away, within reason, so that the client sees the answer.
    """
    size, is_last = _told_size(request), False
    received = 0
    while not is_last and size <= _PATIENCE * limit:
        message = await _received(request)
        piece = message.get("body", b"")
        is_last = not message.get("more_body", False)
        received += len(piece)
        size = max(size, received)
        if piece and size <= limit:
            yield piece
    if size > limit:
        raise HttpError(
            413,
            f"the file has more than {limit:,} bytes (max_file_bytes)",
            code="body_too_large",
            param="file",
            headers={"connection": "close"},
        )


async def _received(request: Request) -> Message:
    timeout_s = services(request).settings.body_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            message = await request.receive()
    except TimeoutError:
        raise HttpError(
            408,
            f"nothing of the file came within body_timeout_s ({timeout_s:g} s)",
            code="body_timeout",
        ) from None
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def _told_size(request: Request) -> int:
    length = request_info(request).headers.get(b"content-length", b"")
    return int(length[:20]) if length.isdigit() else 0


async def _pieces_of(file: UploadFile) -> Pieces:
    while piece := await file.read(_PIECE_BYTES):
        yield piece


def _check_query(request: Request) -> None:
    for name in request.query_params:
        if name not in _FIELDS:
            raise InputError(
                f"unknown parameter '{name[:60]}'{did_you_mean(name[:60], _FIELDS)}; there are: "
                f"{', '.join(_FIELDS)}",
                param=name[:60],
            )
