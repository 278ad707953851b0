"""The loop against the service's own routes and registry; only the workers' work is made up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from cai.cli.main import main
from cai.jobs.jobs import Jobs
from cai.jobs.kinds import kind_of, params_of
from cai.jobs.spec import JobRecord
from cai.policy.feedback import Feedback
from tests.loop.scripted import BASE, GOOD, Place
from tests.policy.registering import sealed
from tests.server.helpers import make_app, make_client, scripted


class Bridge:
    """The app on an event loop in a thread, for clients that block."""

    def __init__(self, app: FastAPI) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = make_client(app)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        sent = self._client.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.content,
            headers={k: v for k, v in request.headers.items() if k != "host"},
        )
        answer = asyncio.run_coroutine_threadsafe(sent, self._loop).result(10)
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Worker:
    """Ends queued jobs at each request; builds their commands, and runs those of feedback."""

    def __init__(self, bridge: Bridge, jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
        self.bridge = bridge
        self.jobs = jobs
        self.capsys = capsys
        self.commands: list[tuple[str, ...]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        for job in self.jobs.store.page(state="queued"):
            self.jobs.store.begin_attempt(job.id, "w")
            self.jobs.store.finish(job.id, "succeeded", result=self._result(job))
        return self.bridge(request)

    def _result(self, job: JobRecord) -> dict[str, Any]:
        kind, params = kind_of(job.kind), params_of(job.spec)
        argv = kind.command(params, self.jobs.place, job.id).argv
        self.commands.append(argv)
        result = kind.result(params, self.jobs.place, job.id, self._printed(job, argv))
        return {**result, **self._promoted(result["policy"])} if job.spec.wants_gate else result

    def _promoted(self, policy: str) -> dict[str, Any]:
        policies = self.jobs.place.policies
        policies.verified(policy, {}, "w")
        policies.make_live(policy, "passed", {}, "w")
        return {"gate": {"passed": True, "figures": GOOD, "reasons": []}, "promoted": True}

    def _printed(self, job: JobRecord, argv: tuple[str, ...]) -> Any:
        home = self.jobs.place.settings.home
        if job.kind == "dataset":
            (home / "runs" / job.params["run"]).mkdir(parents=True)
            return {"pairs": 7}
        if job.kind == "feedback":
            self.capsys.readouterr()
            assert main(argv) == 0
            return json.loads(self.capsys.readouterr().out)
        if job.kind == "gate":
            return {"passed": False, "figures": BASE, "reasons": ["bad"]}
        self.jobs.place.policies.add(sealed(home, job.params["name"]), actor="w")
        return {}


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(
        tmp_path, scripted(model="sandbox"), constitutions=tmp_path, url="http://127.0.0.1:8000"
    )


@pytest.fixture
def worker(
    app: FastAPI,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Worker]:
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    bridge, stores = Bridge(app), app.state.services.stores
    worker = Worker(bridge, stores.jobs, capsys)
    monkeypatch.setattr(place, "server", worker)
    yield worker
    bridge.close()
    stores.close()


def test_every_request_of_a_loop_is_one_that_the_service_takes(
    worker: Worker, app: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [{"role": "user", "content": "Is the fence green?"}]
    app.state.services.stores.feedback.add(
        Feedback(messages=asked, response="Yes.", better="I cannot see it.")
    )
    args = ("--prompts", "prompts.txt", "-c", "toy@1", "--rounds", "1", "--json")
    assert main(["loop", *args]) == 0
    (now,) = json.loads(capsys.readouterr().out)["rounds"]
    assert (now["before"], now["after"], now["human_pairs"]) == (BASE, GOOD, 1)
    live = worker.jobs.place.policies.live()
    assert live is not None
    assert live.id == now["policy"]
    dataset, feedback, gate, sft, dpo = worker.commands
    assert dataset[:2] == ("data", "generate")
    assert feedback[:2] == ("data", "feedback")
    assert (gate[:2], json.loads(gate[2])["over_refusal"]) == (("gate", "sandbox"), 0.02)
    assert (sft[:2], dpo[:2]) == (("train", "sft"), ("train", "dpo"))
    human = feedback[feedback.index("--out") + 1]
    assert human in dpo
    assert human not in sft
    (row,) = (json.loads(line) for line in (Path(human) / "rows.jsonl").read_text().splitlines())
    assert row["source"] == "human"


def test_an_unknown_constitution_is_named_before_anything_is_done(
    worker: Worker, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--prompts", "prompts.txt", "-c", "toyy@1", "--rounds", "1")
    assert main(["loop", *args]) == 2
    assert "toyy" in capsys.readouterr().err
    assert worker.commands == []
