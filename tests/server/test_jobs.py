"""`/v1/jobs` and `/v1/files`: what is taken, what is refused and how, what is streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI

from cai.jobs.jobs import Jobs
from cai.jobs.spec import Progress
from tests.server.helpers import BASE_URL, events, make_app, make_client

ENGINE = "scripted:of-the-operator.yaml"
SETTINGS: dict[str, Any] = {"job_engines": (ENGINE,), "max_file_bytes": 2048, "sse_ping_s": 60}


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path, constitutions=tmp_path, **SETTINGS)


@pytest.fixture
async def prompts(client: httpx2.AsyncClient) -> str:
    return str((await upload(client, b"one\ntwo\n")).json()["id"])


@pytest.fixture
async def jobs(app: FastAPI) -> AsyncIterator[Jobs]:
    yield await app.state.services.stores.run(lambda stores: stores.jobs)
    app.state.services.stores.close()


async def upload(
    client: httpx2.AsyncClient, data: bytes, name: str = "prompts.txt", **headers: str
) -> httpx2.Response:
    sent = {"content-type": "application/octet-stream", **headers}
    return await client.post("/v1/files", params={"filename": name}, content=data, headers=sent)


async def submit(client: httpx2.AsyncClient, prompts: str, **more: Any) -> httpx2.Response:
    given = {"prompts": prompts, "engine": ENGINE, "constitution": "toy@1"}
    params = {**given, **more.pop("params", {})}
    body = {"kind": "dataset", "params": params, **more.pop("body", {})}
    return await client.post("/v1/jobs", json=body, **more)


async def test_a_job_is_queued_shown_listed_and_cancelled(
    client: httpx2.AsyncClient, prompts: str
) -> None:
    queued = (await submit(client, prompts, body={"priority": 70})).json()
    assert queued["object"] == "job"
    assert (queued["state"], queued["priority"], queued["actor"]) == ("queued", 70, "local")
    path = f"/v1/jobs/{queued['id']}"
    assert (await client.get(path)).json() == queued
    other = (await submit(client, prompts)).json()
    listed = (await client.get("/v1/jobs", params={"limit": 1})).json()
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == ([other["id"]], True)
    rest = (await client.get("/v1/jobs", params={"after": other["id"]})).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([queued["id"]], False)
    assert (await client.delete(path)).json()["state"] == "cancelled"
    found = (await client.get("/v1/jobs", params={"state": "cancelled"})).json()["data"]
    assert [one["id"] for one in found] == [queued["id"]]


async def test_cancelling_twice_is_a_conflict_and_an_unknown_job_is_not_found(
    client: httpx2.AsyncClient, prompts: str
) -> None:
    path = f"/v1/jobs/{(await submit(client, prompts)).json()['id']}"
    await client.delete(path)
    again = await client.delete(path)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert "is cancelled already" in again.json()["error"]["message"]
    for method, unknown in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = await client.request(method, f"/v1/jobs/none{unknown}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "job")


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"kind": "datasets", "params": {}}, "kind", "did you mean 'dataset'"),
        ({"kind": "dataset"}, "params", "missing"),
        ({"kind": "dataset", "params": {"prompt": "x"}}, "params.prompt", "'prompts'"),
        ({"kind": "dataset", "params": {}, "prio": 1}, "prio", "did you mean 'priority'"),
        ({"kind": "dataset", "params": {"prompts": "/etc/passwd"}}, "params.prompts", "params"),
        ({"kind": "dataset", "params": {"prompts": "file-1"}, "priority": 101}, "priority", "100"),
        ({"kind": "train", "params": {"method": "sft"}}, "params.data", "params.files"),
        ({"kind": "eval", "params": {"policies": []}}, "params.policies", "at least one"),
        ([], None, "must be a mapping"),
    ],
)
async def test_what_is_wrong_with_a_job_is_named(
    client: httpx2.AsyncClient, body: Any, param: str | None, said: str
) -> None:
    answer = await client.post("/v1/jobs", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert error["param"] == param
    assert said in error["message"]


async def test_engines_files_and_names_are_not_the_clients_to_choose(
    client: httpx2.AsyncClient, prompts: str
) -> None:
    foreign = await submit(client, prompts, params={"engine": "scripted:/tmp/mine.yaml"})
    assert (foreign.status_code, foreign.json()["error"]["param"]) == (400, "params.engine")
    unknown = await submit(client, "file-0123.txt")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "file")
    no_law = await submit(client, prompts, params={"constitution": "harmles@2"})
    assert (no_law.status_code, no_law.json()["error"]["param"]) == (404, "params.constitution")
    first = await submit(client, prompts, params={"run": "mine"})
    second = await submit(client, prompts, params={"run": "mine"})
    assert (first.status_code, second.status_code) == (200, 409)
    assert first.json()["id"] in second.json()["error"]["message"]


async def test_an_idempotency_key_gives_one_job_even_after_a_restart(
    app: FastAPI, client: httpx2.AsyncClient, prompts: str, tmp_path: Path
) -> None:
    headers = {"idempotency-key": "k1"}
    first = (await submit(client, prompts, headers=headers)).json()
    assert (await submit(client, prompts, headers=headers)).json() == first
    app.state.services.stores.close()
    settings = app.state.services.settings
    restarted = make_app(tmp_path / "again", **settings.model_dump(exclude_unset=True))
    async with make_client(restarted) as later:
        assert (await submit(later, prompts, headers=headers)).json() == first
        other = await submit(later, prompts, headers=headers, params={"seed": 2})
        assert other.json()["error"]["param"] == "Idempotency-Key"
        assert len((await later.get("/v1/jobs")).json()["data"]) == 1
    restarted.state.services.stores.close()


async def test_events_are_streamed_and_go_on_after_the_last_one_seen(
    client: httpx2.AsyncClient, prompts: str, jobs: Jobs
) -> None:
    id = (await submit(client, prompts)).json()["id"]
    path = f"/v1/jobs/{id}/events"

    async def work() -> None:
        await asyncio.to_thread(jobs.store.begin_attempt, id, "w1")
        now = Progress(stage="running", done=1, total=2)
        await asyncio.to_thread(jobs.store.progress, id, "w1", now)
        await asyncio.sleep(0.7)
        await asyncio.to_thread(jobs.store.finish, id, "succeeded", result={"run": id})

    told, _ = await asyncio.gather(client.get(path), work())
    assert told.headers["content-type"].startswith("text/event-stream")
    found = events(told.text)
    assert [name for name, _ in found] == ["submitted", "started", "progress", "succeeded"]
    assert json.loads(found[2][1])["data"]["done"] == 1
    ids = [line[4:] for line in told.text.splitlines() if line.startswith("id: ")]
    rest = await client.get(path, headers={"last-event-id": ids[1]})
    assert [name for name, _ in events(rest.text)] == ["progress", "succeeded"]
    assert (await client.get(path, headers={"last-event-id": ids[-1]})).status_code == 204
    wrong = await client.get(path, headers={"last-event-id": "x1"})
    assert wrong.json()["error"]["param"] == "Last-Event-ID"


async def test_a_stream_ends_when_the_server_stops(
    app: FastAPI, client: httpx2.AsyncClient, prompts: str
) -> None:
    id = (await submit(client, prompts)).json()["id"]

    async def stop() -> None:
        await asyncio.sleep(0.2)
        app.state.services.is_stopping = True

    async with asyncio.timeout(5):
        told, _ = await asyncio.gather(client.get(f"/v1/jobs/{id}/events"), stop())
    assert [name for name, _ in events(told.text)] == ["submitted"]
    assert app.state.services.num_watchers == 0


async def test_a_file_comes_back_as_it_was_and_again_is_the_same_file(
    client: httpx2.AsyncClient,
) -> None:
    stored = (await upload(client, b"one\n", "My prompts.txt")).json()
    assert (stored["object"], stored["bytes"], stored["filename"]) == ("file", 4, "My prompts.txt")
    assert stored["purpose"] == "prompts"
    assert (await upload(client, b"one\n", "other.txt")).json() == stored
    assert (await client.get("/v1/files")).json()["data"] == [stored]
    assert (await client.get(f"/v1/files/{stored['id']}")).json() == stored
    content = await client.get(f"/v1/files/{stored['id']}/content")
    assert content.content == b"one\n"
    assert content.headers["content-type"] == "application/octet-stream"


async def test_openais_client_uploads_lists_and_reads(app: FastAPI) -> None:
    async with (
        make_client(app) as http,
        openai.AsyncOpenAI(api_key="-", base_url=f"{BASE_URL}/v1", http_client=http) as official,
    ):
        file = ("p.jsonl", b'{"prompt": "hi"}\n')
        made = await official.files.create(file=file, purpose="user_data")
        assert (made.filename, made.bytes, made.purpose) == ("p.jsonl", 17, "user_data")
        assert [one.id async for one in official.files.list()] == [made.id]
        assert (await official.files.content(made.id)).content == file[1]


@pytest.mark.parametrize(
    ("name", "data", "status", "param"),
    [
        ("", b"x", 400, "filename"),
        ("prompts.exe", b"x", 400, "filename"),
        ("p\n.txt", b"x", 400, "filename"),
        ("prompts.txt", b"", 400, "file"),
        ("prompts.txt", b"x" * 3000, 413, "file"),
    ],
)
async def test_a_file_that_will_not_do_leaves_nothing(
    client: httpx2.AsyncClient, tmp_path: Path, name: str, data: bytes, status: int, param: str
) -> None:
    answer = await upload(client, data, name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    chunked = await client.post(
        "/v1/files", params={"filename": "big.txt"}, content=_pieces(b"x" * 1000, 3)
    )
    assert chunked.status_code == 413
    assert [path for path in tmp_path.rglob("home/files/*") if path.is_file()] == []


@pytest.mark.parametrize(
    "id",
    ["..%2f..%2fcai.db", "%2e%2e", "..%5ccai.db", "file-%00", "records", "FILE-1", "x" * 65,
     "%252e%252e%252fcai.db", "ﬁle-1"],
)  # fmt: skip
async def test_no_path_reaches_the_disk(client: httpx2.AsyncClient, prompts: str, id: str) -> None:
    for path in (f"/v1/files/{id}/content", f"/v1/files/{id}", f"/v1/jobs/{id}"):
        answer = await client.get(path)
        assert answer.status_code in (400, 404), path
        assert "error" in answer.json()


async def test_a_runs_artifacts_are_read_by_id(
    client: httpx2.AsyncClient, tmp_path: Path, prompts: str
) -> None:
    run = tmp_path / "home" / "runs" / "toy"
    run.mkdir(parents=True)
    (run / "rows.jsonl").write_text("{}\n")
    (run / "lock").write_text("1")
    (run / "report.json").symlink_to("/etc/passwd")
    assert (await client.get("/v1/files/toy.rows.jsonl/content")).content == b"{}\n"
    for hidden in ("toy.lock", "toy.report.json", "toy.transcripts.jsonl"):
        assert (await client.get(f"/v1/files/{hidden}/content")).status_code == 404


async def _pieces(piece: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield piece
