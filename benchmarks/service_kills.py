"""Kills parts of a running service at random moments, under load, and counts what is lost.

Engine core, engine worker, API process, job worker: each time the service must come back by itself
(the API process under `deploy/keep-running.sh`), no job may be lost or done twice, and the registry
may never show two live policies, nor another one than answers. While jobs run one policy is live,
as a run takes rows of one alone; in the last quarter of the kills two are promoted in turn. Takes a
minute for two or three kills: `python -m benchmarks.service_kills 50` for all.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.server_side import free_port
from cai.engine.ownership import marked_processes
from cai.sandbox.prompts import prompts

NUM_CLIENTS = 8
PROMPTS_A_JOB = 40
BACK_WITHIN_S = 180.0
POLICIES = ("one", "two")
PARTS = ("engine core", "engine worker", "API process", "job worker")


def main(num_kills: int = 50, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder) / "var", free_port()
        cai = str(Path(sys.executable).parent / "cai")
        command = ["deploy/keep-running.sh", cai, "serve", "--port", str(port)]
        make_policies(home)
        service = subprocess.Popen(
            command,
            env={**os.environ, "CAI_HOME": str(home), "CAI_URL": f"http://127.0.0.1:{port}"},
            stdout=subprocess.DEVNULL,
            stderr=(Path(folder) / "log").open("wb"),
            start_new_session=True,
        )
        try:
            asyncio.run(work(f"http://127.0.0.1:{port}", home, num_kills, seed))
        finally:
            service.terminate()
            service.wait(60)


async def work(url: str, home: Path, num_kills: int, seed: int) -> None:
    draw, told = random.Random(seed), Counter[str]()
    promoted = Counter[str]()
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        await until_ready(client)
        (await client.post(f"/v1/policies/{POLICIES[0]}/promote")).raise_for_status()
        uploaded = await upload(client)
        background = [asyncio.create_task(ask(client, told)) for _ in range(NUM_CLIENTS)]
        jobs: list[str] = []
        records: list[dict[str, Any]] = []
        seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        for number in range(num_kills):
            if number == num_kills * 3 // 4:
                records = [await finished(client, id) for id in jobs]
                background.append(asyncio.create_task(promote(client, promoted)))
            elif number % 4 == 0 and not records:
                jobs.append(await submit(client, uploaded, f"job-{seed}-{number}"))
            await asyncio.sleep(draw.uniform(0.5, 6.0))
            part = PARTS[number % len(PARTS)]
            for pid in draw.sample(found := pids_of(part), min(1, len(found))):
                os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            await asyncio.sleep(0.5)
            await until_ready(client)
            seconds[part].append(time.monotonic() - began)
            assert len(live_in(home)) == 1, f"the registry has the live policies {live_in(home)}"
            print(f"  {number + 1}: {part}, back after {seconds[part][-1]:.1f} s", flush=True)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await until_ready(client)
        answers_as = await policy_that_answers(client)
    print(f"promotions meanwhile: {dict(promoted)}")
    report(records, seconds, told, home, answers_as)


def report(
    records: list[dict[str, Any]],
    seconds: dict[str, list[float]],
    told: Counter[str],
    home: Path,
    answers_as: str,
) -> None:
    states = Counter(record["state"] for record in records)
    whole = sum(is_whole(home, record["id"]) for record in records)
    live = live_in(home)
    for record in records:
        if record["state"] != "succeeded":
            print(f"  {record['id']}: {record['state']}, {record.get('error')}")
    for part, found in seconds.items():
        if found:
            worst = max(found)
            print(f"{part}: {len(found)} kills, back after {worst:.1f} s at the latest")
    print(f"requests meanwhile: {dict(told)}")
    ok = states["succeeded"] == len(records) == whole and set(told) <= {"200", "away"}
    ok = ok and live == [answers_as]
    print(
        f"{len(records)} jobs: {dict(states)}, {whole} with every input exactly once; "
        f"live in the registry: {live}, and {answers_as} answers: {'ok' if ok else 'NOT OK'}"
    )


def make_policies(home: Path) -> None:
    """Two candidates, each a small step of training away from the bundled model."""
    from cai.engine.open import SANDBOX_MODEL
    from cai.policy.manifest import seal
    from cai.settings import Settings
    from server.stores import Stores
    from tests.checkpoints import derive, nudged, probe_of

    stores = Stores(Settings(home=home))
    for seed, name in enumerate(POLICIES, start=1):
        folder = derive(SANDBOX_MODEL, home / "policies" / name, nudged(0.05, seed))
        probes = tuple(
            probe_of(folder, tuple(range(first, first + 24)), tuple(range(first + 30, first + 42)))
            for first in (20, 120, 420)
        )
        given = {"name": name, "kind": "full", "method": "sft", "base": "sandbox"}
        seal(folder, probes=probes, **given)
        stores.policies.add(folder, actor="benchmark")
    stores.close()


async def promote(client: httpx2.AsyncClient, told: Counter[str]) -> None:
    """The two in turn, as fast as the service lets it."""
    while True:
        for name in POLICIES:
            try:
                response = await client.post(f"/v1/policies/{name}/promote")
                told[str(response.status_code)] += 1
            except httpx2.TransportError:
                told["away"] += 1
            await asyncio.sleep(2.0)


def live_in(home: Path) -> list[str]:
    """Names of the policies that the registry calls live."""
    with sqlite3.connect(home / "cai.db") as database:
        return [row[0] for row in database.execute("select id from policies where state = 'live'")]


async def policy_that_answers(client: httpx2.AsyncClient) -> str:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    response = await client.post("/v1/chat/completions", json=body)
    return str(response.raise_for_status().headers["x-cai-policy"])


def is_whole(home: Path, run: str) -> bool:
    """Whether each input of the run is accounted for once."""
    if not (home / "runs" / run / "transcripts.jsonl").exists():
        return False
    kept = [json.loads(line) for line in (home / "runs" / run / "transcripts.jsonl").open()]
    rejected = home / "runs" / run / "rejected.jsonl"
    lost = [json.loads(line) for line in rejected.open()] if rejected.exists() else []
    beside = {row["input_id"] for row in lost}
    ids = [row["input_id"] for row in kept if row["input_id"] not in beside]
    return len(ids) + len(lost) == PROMPTS_A_JOB == len({*ids, *beside})


async def upload(client: httpx2.AsyncClient) -> str:
    asked = prompts("train", "harmful", PROMPTS_A_JOB, turns=1)
    lines = "".join(f"{one.messages[-1].content}\n" for one in asked)
    response = await client.post(
        "/v1/files?filename=prompts.txt",
        content=lines.encode(),
        headers={"content-type": "text/plain"},
    )
    return str(response.raise_for_status().json()["id"])


async def submit(client: httpx2.AsyncClient, prompts: str, key: str) -> str:
    body = {"kind": "dataset", "params": {"prompts": prompts, "constitution": "harmless@2"}}
    while True:
        try:
            response = await client.post("/v1/jobs", json=body, headers={"idempotency-key": key})
            if response.status_code < 500:
                return str(response.raise_for_status().json()["id"])
        except httpx2.TransportError:
            pass
        await asyncio.sleep(0.5)


async def finished(client: httpx2.AsyncClient, id: str) -> dict[str, Any]:
    async with asyncio.timeout(600):
        while True:
            try:
                record: dict[str, Any] = (await client.get(f"/v1/jobs/{id}")).json()
                if record.get("state") in ("succeeded", "failed", "cancelled"):
                    return record
            except httpx2.TransportError:
                pass
            await asyncio.sleep(1.0)


async def ask(client: httpx2.AsyncClient, told: Counter[str]) -> None:
    """Ask again and again; away is a refused connection, a cut one, or a 503."""
    body = {"messages": [{"role": "user", "content": "How do I open a jar?"}], "max_tokens": 16}
    while True:
        try:
            status = (await client.post("/v1/chat/completions", json=body)).status_code
            told["away" if status == 503 else str(status)] += 1
        except httpx2.TransportError:
            status = 503
            told["away"] += 1
        await asyncio.sleep(0.5 if status == 503 else 0.05)


async def until_ready(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            try:
                if (await client.get("/readyz", timeout=10)).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.25)


def pids_of(part: str) -> list[int]:
    """Processes of the service; this benchmark starts the only one on the machine."""
    if part.startswith("engine"):
        name = "EngineCor" if part == "engine core" else "Worker"
        return [pid for pid in marked_processes() if name in read(pid, "comm")]
    everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    lines = {pid: read(pid, "cmdline").split("\0") for pid in everyone}
    if part == "API process":
        return [p for p, line in lines.items() if "serve" in line and "python" in line[0]]
    return [p for p, line in lines.items() if "cai.jobs.child" in line and "worker" in line]


def read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:]))
