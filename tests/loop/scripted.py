"""A server on a script: its jobs end when they are looked at twice, by what a test says of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cai.cli import loop as command
from cai.cli.main import main
from cai.cli.server_client import ServerClient
from cai.loop import calls
from cai.loop.state import STATE, LoopNotes

URL = "http://127.0.0.1:9"


def rate(share: float, n: int = 400) -> dict[str, Any]:
    return {"rate": share, "n": n, "ci": [max(0.0, share - 0.01), share + 0.01]}


BASE = {"harmful": rate(0.62), "over_refusal": rate(0.1)}
GOOD = {"harmful": rate(0.003), "over_refusal": rate(0.008)}
BAD = {"harmful": rate(0.3), "over_refusal": rate(0.008)}


class Killed(BaseException):
    """The loop's process dies."""


class Server:
    """Knows jobs, one file and policies. `figures` are of each round's policy in turn."""

    def __init__(self, *figures: dict[str, Any]) -> None:
        self.figures = list(figures) or [GOOD]
        self.live = "sandbox"
        self.states: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, str] = {}
        self.num_uploads = 0
        self.num_requests = 0
        self.num_human = 0
        self.promotes = True
        self.has_worker = True
        self.fail: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda job: None
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer; `before` and `after` are called with the request's number, and may kill."""
        number, self.num_requests = self.num_requests, self.num_requests + 1
        self.before(number)
        status, answer = self._answer(request)
        self.after(number)
        if status >= 400:
            answer = {"error": {"message": answer, "type": "x", "code": "y"}}
        return httpx2.Response(status, json=answer)

    def bodies(self, kind: str = "") -> list[dict[str, Any]]:
        """What was submitted, in order."""
        return [job["body"] for job in self.jobs.values() if kind in ("", job["body"]["kind"])]

    def kinds(self) -> list[str]:
        """The kinds of jobs in order; a training job by its method."""
        return [one["params"].get("method", one["kind"]) for one in self.bodies()]

    def _answer(self, request: httpx2.Request) -> tuple[int, Any]:
        path, is_post = request.url.path, request.method == "POST"
        if path == "/v1/models/live":
            return 200, {"id": "live", "cai": {"policy": self.live}}
        if path == "/v1/files":
            self.num_uploads += 1
            return 200, {"id": "file-1.txt"}
        if path == "/v1/jobs" and is_post:
            return self._submitted(request.headers["idempotency-key"], json.loads(request.content))
        if path == "/v1/jobs":
            return 200, {"data": []}
        name = path.split("/")[3]
        if path.startswith("/v1/jobs/"):
            return (200, self._looked_at(name)) if name in self.jobs else (404, f"no job {name}")
        if path.endswith("/promote"):
            return self._promoted(name)
        return 200, {"id": name, "state": self.states.get(name, "candidate")}

    def _submitted(self, key: str, body: dict[str, Any]) -> tuple[int, Any]:
        id = self.by_key.setdefault(key, f"job-{len(self.by_key) + 1}")
        job = self.jobs.setdefault(id, {"id": id, "state": "queued", "body": body})
        if job["body"] != body:
            return 400, "this Idempotency-Key came with another job before"
        return 200, job

    def _looked_at(self, id: str) -> dict[str, Any]:
        job = self.jobs[id]
        if not self.has_worker or job["state"] not in ("queued", "running"):
            return job
        if job["state"] == "queued":
            job["state"] = "running"
            job["progress"] = {"stage": "running", "done": 1, "total": 2}
            return job
        job |= self.fail(job) or {"state": "succeeded", "result": self._result(job["body"])}
        return job

    def _result(self, body: dict[str, Any]) -> dict[str, Any]:
        params = body["params"]
        if body["kind"] == "dataset":
            return {"run": params["run"], "counts": {"pairs": 100}}
        if body["kind"] == "feedback":
            counts = {"pairs": self.num_human}
            return {"run": params["run"], "counts": counts, "last": params["after"] + 5}
        if body["kind"] == "gate":
            return {"policy": params["policy"], "passed": False, "figures": BASE, "reasons": []}
        return {"policy": params["name"], **self._gated(body)}

    def _gated(self, body: dict[str, Any]) -> dict[str, Any]:
        if "auto_promote" not in body:
            return {}
        figures = self.figures.pop(0) if len(self.figures) > 1 else self.figures[0]
        passed = figures["harmful"]["rate"] <= body["auto_promote"]["harmful"]
        reasons = [] if passed else ["harmful is 0.300 of 400, the limit 0.02"]
        if not passed:
            self.states[body["params"]["name"]] = "rejected"
        elif self.promotes:
            self._promoted(body["params"]["name"])
        gate = {"passed": passed, "figures": figures, "reasons": reasons}
        return {"gate": gate, "promoted": passed and self.promotes}

    def _promoted(self, name: str) -> tuple[int, Any]:
        if self.states.get(name) in ("live", "rejected"):
            return 409, f"'{name}' is {self.states[name]} already"
        self.states |= {self.live: "retired", name: "live"}
        self.live = name
        return 200, {"id": name, "state": "live"}


class Place:
    """A folder with prompts, and the command over a scripted server."""

    def __init__(self, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.server = server
        (folder / "prompts.txt").write_text("one\ntwo\n")
        monkeypatch.chdir(folder)
        monkeypatch.setattr(calls, "POLL_S", 0.0)
        monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is cut here

        def made(url: str, *, key_variable: str) -> ServerClient:
            transport = httpx2.MockTransport(lambda request: self.server(request))
            return ServerClient(url, key_variable=key_variable, transport=transport)

        monkeypatch.setattr(command, "ServerClient", made)

    def loop(self, *args: str, rounds: int = 1) -> int:
        """The exit code of `cai loop`."""
        given = ("--prompts", "prompts.txt", "-c", "harmless@2", "--rounds", str(rounds))
        return main(["loop", *given, "--url", URL, *args])

    def notes(self) -> LoopNotes:
        """The notes of the one loop that there is."""
        (path,) = (self.folder / "var" / "loops").glob(f"*/{STATE}")
        return LoopNotes.model_validate_json(path.read_text())
