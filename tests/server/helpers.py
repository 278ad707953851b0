"""A served app without a network, a small constitution, and a server on a real port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from cai.constitution.lock import write_lock
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.engine.scripted import ScriptedEngine, last_text
from cai.settings import Settings
from cai.types import Prompt, Sampling
from server.app import create_app

BASE_URL = "http://127.0.0.1:8000"

TOY = """
name: toy
version: {version}
title: Be kind
principles:
  - id: kind
    critique: Point out what is unkind. [critique]
    revision: Write it kindly. [revision]
    compare: Which is kinder?
  - id: short
    critique: Point out what is too long. [critique]
    revision: Write it shorter. [revision]
"""


def make_store(root: Path) -> ConstitutionStore:
    """`toy@1` as a release, and `toy@draft`."""
    folder = root / "toy"
    folder.mkdir(parents=True)
    for version in ("1", "draft"):
        (folder / f"{version}.yaml").write_text(TOY.format(version=version))
    store = ConstitutionStore(root)
    write_lock(root, {"toy@1": store.load("toy", 1).digest})
    return store


def answer(prompt: Prompt, sampling: Sampling) -> str:
    """A draft of three words, a critique of three, a revision of two."""
    text = last_text(prompt)
    if "[critique]" in text:
        return "That is unkind."
    if "[revision]" in text:
        return "Kind words."
    return "You bad person."


def scripted(**options: Any) -> ScriptedEngine:
    """The engine that most tests ask."""
    return ScriptedEngine(answer, lambda _prompt, labels: dict.fromkeys(labels, -1.0), **options)


def make_app(
    root: Path, engine: Engine | None = None, *, judge: Engine | None = None, **settings: Any
) -> FastAPI:
    """The app over a scripted engine and the toy constitution; its home is a folder in `root`."""
    of_tests = Settings(**{"home": root / "home", **settings})
    return create_app(engine or scripted(), make_store(root), of_tests, judge, opening=None)


def make_client(app: FastAPI, **options: Any) -> httpx2.AsyncClient:
    """A client that calls the app without a network."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE_URL, **options)


def chat_body(text: str = "Hello there", **fields: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def events(text: str) -> list[tuple[str | None, str]]:
    """The named and unnamed events of a stream, as (name, data)."""
    found = []
    for block in text.split("\n\n"):
        told = [line.partition(": ") for line in block.split("\n")]
        lines = {name: value for name, _, value in told}
        if "data" in lines:
            found.append((lines.get("event"), lines["data"]))
    return found


@asynccontextmanager
async def served(app: FastAPI, *, drain_s: int = 5) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """The app under uvicorn on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=drain_s, ws="none"
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve(sockets=[listener]))  # without its signals
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{port}", server
        finally:
            server.should_exit = True
            await running


async def until(condition: Any, *, limit_s: float = 5.0) -> None:
    """Wait until `condition()` holds; fails after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)
