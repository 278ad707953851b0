"""Commands that ask a running server: what is sent, with which key, and how refusals end."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import pytest

from cai.cli import policy
from cai.cli.main import main
from cai.cli.server_client import ServerClient
from cai.errors import (
    CaiError,
    ConfigError,
    ConflictError,
    EngineDeadError,
    InputError,
    NotFoundError,
)

URL = "http://127.0.0.1:9"

Handler = Callable[[httpx2.Request], httpx2.Response]


def client(handler: Handler, **options: str) -> ServerClient:
    return ServerClient(URL + "/v1/", transport=httpx2.MockTransport(handler), **options)


def refuses(status: int, message: str) -> Handler:
    envelope = {"error": {"message": message, "type": "x", "code": "y"}}
    return lambda _: httpx2.Response(status, json=envelope)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Request]:
    """Requests of `cai policy`, each of which is answered with a live policy."""
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json={"id": "first", "state": "live"})

    def made(url: str, *, key_variable: str) -> ServerClient:
        transport = httpx2.MockTransport(answer)
        return ServerClient(url, key_variable=key_variable, transport=transport)

    monkeypatch.setattr(policy, "ServerClient", made)
    return requests


def test_promote_and_rollback_are_asked_of_the_server_with_the_key_of_the_environment(
    asked: list[httpx2.Request], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAI_API_KEY", "cai-secret")
    monkeypatch.setenv("OTHER_KEY", "cai-other")
    assert main(["policy", "promote", "first", "--url", URL, "--reason", "good"]) == 0
    assert f"first is live on {URL}" in capsys.readouterr().out
    monkeypatch.setenv("CAI_URL", URL)
    assert main(["policy", "rollback", "--api-key-env", "OTHER_KEY", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "first", "state": "live"}
    promoted, rolled_back = asked
    assert (promoted.method, str(promoted.url)) == ("POST", URL + "/v1/policies/first/promote")
    assert json.loads(promoted.content) == {"reason": "good"}
    assert promoted.headers["authorization"] == "Bearer cai-secret"
    assert str(rolled_back.url) == URL + "/v1/policies/rollback"
    assert rolled_back.headers["authorization"] == "Bearer cai-other"


def test_a_reference_stays_one_part_of_the_path(asked: list[httpx2.Request]) -> None:
    assert main(["policy", "promote", "../x?y#z", "--url", URL]) == 0
    assert asked[0].url.raw_path == b"/v1/policies/..%2Fx%3Fy%23z/promote"


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (400, InputError, "not so"),
        (401, ConfigError, "not so; set CAI_API_KEY to a key that may do this"),
        (403, ConfigError, "not so; set CAI_API_KEY to a key that may do this"),
        (404, NotFoundError, "not so"),
        (409, ConflictError, "not so"),
        (503, EngineDeadError, "not so"),
        (500, CaiError, "not so"),
    ],
)
def test_a_refusal_is_an_error_of_its_kind_in_the_servers_words(
    status: int, kind: type[CaiError], told: str
) -> None:
    with client(refuses(status, "not so")) as server, pytest.raises(kind) as caught:
        server.post("/v1/x")
    assert caught.value.message == f"the server answers {status}: {told}"


def test_the_key_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_API_KEY", "cai-secret")
    with client(refuses(400, "bad cai-secret")) as server, pytest.raises(InputError) as caught:
        server.get("/v1/x")
    assert "cai-secret" not in caught.value.message
    monkeypatch.setenv("CAI_API_KEY", "cai\u00e9")
    with pytest.raises(ConfigError, match="CAI_API_KEY has characters that no key has"):
        client(refuses(400, ""))


def test_what_cannot_be_reached_or_is_no_json_is_told() -> None:
    def gone(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    def slow(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("slow", request=request)

    with client(gone) as server, pytest.raises(EngineDeadError, match="'cai serve' running there"):
        server.get("/x")
    with client(slow) as server, pytest.raises(EngineDeadError, match="no answer in time"):
        server.get("/x")
    page = client(lambda _: httpx2.Response(200, text="<html>"))
    with page as server, pytest.raises(CaiError, match="is not JSON"):
        server.get("/x")


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://name:word@host", "http://[::1"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="should look like http://host:port") as caught:
        ServerClient(url)
    assert "word" not in caught.value.message
