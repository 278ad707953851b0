"""Fixtures of the server's tests: an app over a scripted engine, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from tests.server.helpers import make_app, make_client


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """The app over the scripted engine, without keys."""
    return make_app(tmp_path)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of `app`."""
    async with make_client(app) as client:
        yield client
