"""Browsers on the same machine: foreign hosts and origins are turned away."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from server.auth import add_key
from tests.server.helpers import chat_body, make_app, make_client


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "169.254.1.1", "[::2]", "["],
)
async def test_rebinding_host_is_turned_away(client: httpx2.AsyncClient, host: str) -> None:
    response = await client.get("/v1/models", headers={"host": host})
    assert response.status_code == 421
    assert response.json()["error"]["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:8000", "[::1]:8000"])
async def test_own_host_is_served(client: httpx2.AsyncClient, host: str) -> None:
    assert (await client.get("/v1/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8001", ""]
)
async def test_foreign_origin_is_turned_away(client: httpx2.AsyncClient, origin: str) -> None:
    headers = {"origin": origin, "host": "127.0.0.1:8000"}
    response = await client.post("/v1/chat/completions", json=chat_body(), headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "foreign_origin"
    assert "access-control-allow-origin" not in response.headers


async def test_own_and_allowed_origins_are_served(tmp_path: Path) -> None:
    app = make_app(tmp_path, allowed_origins=("https://ui.example",))
    async with make_client(app) as client:
        for origin in ("http://127.0.0.1:8000", "https://ui.example"):
            headers = {"origin": origin, "host": "127.0.0.1:8000"}
            assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_with_keys_any_host_is_served_unless_names_are_given(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.yaml", "a", ["infer"])
    headers = {"host": "api.example", "authorization": f"Bearer {key}"}
    for number, (allowed, status) in enumerate([((), 200), (("api.example",), 200), (("b",), 421)]):
        app = make_app(
            tmp_path / str(number), api_key_file=tmp_path / "keys.yaml", allowed_hosts=allowed
        )
        async with make_client(app) as client:
            assert (await client.get("/v1/models", headers=headers)).status_code == status


async def test_every_answer_has_the_browsers_guards(client: httpx2.AsyncClient) -> None:
    for path in ("/v1/models", "/docs", "/nothing", "/v1/chat/completions"):
        response = await client.get(path)
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_the_docs_page_needs_no_script_and_nothing_from_elsewhere(
    client: httpx2.AsyncClient,
) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "POST /v1/chat/completions" in page.text
    assert "frequency_penalty" in page.text
    for forbidden in ("<script", "style=", "http://", "https://", "onload"):
        assert forbidden not in page.text
    assert (await client.get("/docs/style.css")).headers["content-type"].startswith("text/css")
