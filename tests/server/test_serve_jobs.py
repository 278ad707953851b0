"""`cai serve` with its worker: a job asks the server that took it, and survives their death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.auth import add_key
from tests.jobs.helpers import processes_of, wait_until
from tests.server.helpers import events
from tests.server.test_serve import ready, running

SCRIPT = "rules:\n  - {answer: One two three., scores: {A: -0.1, B: -2.4}}\ndelay_s: 0.05\n"


@contextmanager
def service(folder: Path, port: int = 0) -> Iterator[tuple[httpx2.Client, subprocess.Popen[str]]]:
    """A client with a key for training, and the server's process."""
    folder.mkdir(exist_ok=True)
    (folder / "script.yaml").write_text(SCRIPT)
    keys = folder / "keys.yaml"
    if not keys.exists():
        (folder / "key").write_text(add_key(keys, "jane", ["train"]))
    args = ("--engine", f"scripted:{folder / 'script.yaml'}", "--port", str(port))
    with running(folder, *args, "--api-key-file", str(keys), has_worker=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ready(url)
        key = (folder / "key").read_text()
        headers = {"authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
            yield client, process


def submit(client: httpx2.Client, num_prompts: int) -> str:
    text = "".join(f"prompt {number}\n" for number in range(num_prompts)).encode()
    headers = {"content-type": "text/plain"}
    file = client.post("/v1/files?filename=p.txt", content=text, headers=headers).json()
    params = {"prompts": file["id"], "constitution": "toy@1", "concurrency": 1, "judge": "none"}
    answer = client.post("/v1/jobs", json={"kind": "dataset", "params": params})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def get(client: httpx2.Client, id: str) -> dict[str, Any]:
    record: dict[str, Any] = client.get(f"/v1/jobs/{id}").json()
    return record


def is_at_work(client: httpx2.Client, id: str) -> bool:
    return get(client, id)["state"] == "running" and bool(processes_of(id))


@pytest.mark.slow
def test_a_job_goes_on_when_worker_and_server_are_killed(tmp_path: Path) -> None:
    with service(tmp_path / "s") as (client, server):
        id = submit(client, 30)
        port = int(str(client.base_url).rpartition(":")[2].strip("/"))
        wait_until(lambda: is_at_work(client, id))
        worker = int(get(client, id)["worker"].split("-")[1])
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: get(client, id)["attempts"] == 2 and processes_of(id))
        worker = int(get(client, id)["worker"].split("-")[1])
        server.kill()
        server.wait()
        wait_until(lambda: not processes_of(id), limit_s=3.0)
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), limit_s=3.0)
    # The same constitutions again: the helper makes them anew.
    (tmp_path / "s" / "constitutions" / "toy").rename(tmp_path / "toy")
    (tmp_path / "s" / "constitutions" / "releases.lock").unlink()
    with service(tmp_path / "s", port) as (client, server):
        told = events(client.get(f"/v1/jobs/{id}/events").text)
        assert told[-1][0] == "succeeded", told[-1]
        result = json.loads(told[-1][1])["data"]["result"]
        assert (result["counts"]["inputs"], result["counts"]["kept"]) == (30, 30)
        kept = client.get(f"/v1/files/{result['files']['transcripts.jsonl']}/content").text
        ids = [json.loads(line)["input_id"] for line in kept.splitlines()]
        assert len(ids) == len(set(ids)) == 30
        assert get(client, id)["attempts"] == 3
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


def test_a_job_asks_its_server_and_a_stream_that_watches_does_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    with service(tmp_path / "s") as (client, server):
        told = events(client.get(f"/v1/jobs/{submit(client, 2)}/events").text)
        assert told[-1][0] == "succeeded", told[-1]
        id = submit(client, 400)
        with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("id: ")
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=20) == 0
        with pytest.raises(httpx2.ConnectError):
            client.get("/healthz")
        assert processes_of(id) == []
