"""Keys and scopes, asked of the app's own route table."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from cai.errors import ConfigError, ConflictError
from server.auth import SCOPES, Keyring, Scope, add_key
from server.routes.table import ACCESS
from tests.server.helpers import chat_body, make_app, make_client


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


@pytest.fixture
def keys(key_file: Path) -> dict[Scope, str]:
    return {scope: add_key(key_file, f"{scope}-key", [scope]) for scope in SCOPES}


@pytest.fixture
def guarded(tmp_path: Path, key_file: Path, keys: dict[Scope, str]) -> FastAPI:
    return make_app(tmp_path / "constitutions", api_key_file=key_file)


def calls(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, with its parameters filled in."""
    found = []
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is not guarded"
        (method,) = route.methods
        found.append((method, route.path))
    return found


async def call(app: FastAPI, method: str, path: str, key: str | None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    concrete = re.sub(r"\{[^}]*\}", "toy", path)
    async with make_client(app, headers=headers) as client:
        return await client.request(method, concrete, json={} if method == "POST" else None)


async def test_every_route_without_a_key_is_401_unless_it_is_open(guarded: FastAPI) -> None:
    for method, path in calls(guarded):
        response = await call(guarded, method, path, None)
        if ACCESS[f"{method} {path}"] == "open":
            assert response.status_code == 200, path
            continue
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"


async def test_every_route_with_the_wrong_scope_is_403(
    guarded: FastAPI, keys: dict[Scope, str]
) -> None:
    for method, path in calls(guarded):
        access = ACCESS[f"{method} {path}"]
        for scope in SCOPES:
            response = await call(guarded, method, path, keys[scope])
            may = access in ("open", "any", scope) or scope == "admin"
            assert (response.status_code == 403) is not may, (path, scope)


def test_the_table_has_no_line_too_many(guarded: FastAPI) -> None:
    assert {f"{method} {path}" for method, path in calls(guarded)} == set(ACCESS)


def test_only_operations_and_docs_are_open() -> None:
    open_calls = {call for call, access in ACCESS.items() if access == "open"}
    assert open_calls == {
        "GET /healthz", "GET /readyz", "GET /docs", "GET /docs/style.css", "GET /openapi.json",
    }  # fmt: skip
    assert all(ACCESS[call] == "admin" for call in ACCESS if "/internal" in call)


async def test_the_stored_hash_is_no_key(
    guarded: FastAPI, key_file: Path, keys: dict[Scope, str]
) -> None:
    text = key_file.read_text()
    for entry in re.findall(r"hmac-sha256:\S+", text):
        _, salt, digest = entry.split(":")
        for wrong in (entry, salt, digest, salt + digest, hashlib.sha256(b"").hexdigest()):
            assert (await call(guarded, "GET", "/v1/models", wrong)).status_code == 401
    assert not any(key in text for key in keys.values())


async def test_parts_and_variants_of_a_key_are_no_keys(
    guarded: FastAPI, keys: dict[Scope, str]
) -> None:
    key = keys["infer"]
    for wrong in (key[:-1], key + "x", key.upper(), key[4:], "", "a" * 10_000, key + "\0"):
        headers = {"authorization": f"Bearer {wrong}"}
        async with make_client(guarded) as client:
            response = await client.get("/v1/models", headers=headers)
        assert response.status_code == 401, wrong
    async with make_client(guarded) as client:
        for header in (f"Basic {key}", key, f"bearer  {key}"):
            response = await client.get("/v1/models", headers={"authorization": header})
            assert response.status_code == (200 if header.startswith("bearer") else 401)
        response = await client.get(f"/v1/models?api_key={key}")
        assert response.status_code == 401


async def test_with_keys_the_internal_calls_need_one_from_everywhere(
    guarded: FastAPI, keys: dict[Scope, str]
) -> None:
    assert (await call(guarded, "GET", "/internal/identity", None)).status_code == 401
    assert (await call(guarded, "GET", "/internal/identity", keys["admin"])).status_code == 200


async def test_a_key_is_checked_before_the_body_is_read(guarded: FastAPI) -> None:
    async with make_client(guarded) as client:
        response = await client.post("/v1/chat/completions", content=b"x" * 2_000_000)
    assert response.status_code == 401


def test_keys_are_random_and_the_file_is_private(key_file: Path) -> None:
    first, second = add_key(key_file, "a", ["infer"]), add_key(key_file, "b", ["infer", "admin"])
    assert first != second
    assert len(first) >= 40
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    ring = Keyring.from_file(key_file)
    found = ring.find(second)
    assert found is not None
    assert (found.name, found.scopes) == ("b", ("infer", "admin"))
    assert ring.find("cai-other") is None


def test_comments_in_the_key_file_stay(key_file: Path) -> None:
    key_file.write_text("# ours\n")
    add_key(key_file, "a", ["infer"])
    assert key_file.read_text().startswith("# ours\n- name: a\n")


def test_a_name_is_taken_once(key_file: Path) -> None:
    add_key(key_file, "a", ["infer"])
    with pytest.raises(ConflictError, match="already has a key named 'a'"):
        add_key(key_file, "a", ["infer"])


@pytest.mark.parametrize("name", ["", "A", "a b", "a\n- name: b", "../a", "a" * 65])
def test_a_strange_name_is_refused_and_nothing_is_written(key_file: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        add_key(key_file, name, ["infer"])
    assert not key_file.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: a",
        "- name: a",
        "- {name: a, hash: abc, scopes: [infer]}",
        "- {name: a, hash: 'hmac-sha256:" + "0" * 32 + ":" + "0" * 64 + "', scopes: [root]}",
        "- {name: a, hash: 'hmac-sha256:" + "0" * 32 + ":" + "0" * 64 + "', scopes: []}",
        "- &a {name: a}\n- *a",
        "!!python/object:os.system {}",
    ],
)
def test_a_wrong_key_file_is_refused_by_name(key_file: Path, text: str) -> None:
    key_file.write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        Keyring.from_file(key_file)


async def test_who_called_is_in_the_log(
    guarded: FastAPI, keys: dict[Scope, str], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"authorization": f"Bearer {keys['infer']}"}
    with caplog.at_level("INFO", logger="server.context"):
        async with make_client(guarded, headers=headers) as client:
            await client.post("/v1/chat/completions", json=chat_body(user="Jane Doe"))
    line = caplog.messages[-1]
    assert "key=infer-key" in line
    assert "prompt_tokens=2 completion_tokens=3" in line
    assert keys["infer"] not in line
    assert "Jane" not in line
    assert re.search(r"user=[0-9a-f]{12}", line)
