"""Twenty reloads under 64 streaming clients: failures, mixed answers, latency, how long all wait.

Two policies with plainly different greedy answers take turns on a server over real vLLM, float32.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.models import DTYPE, quiet_environment

quiet_environment()

NUM_CLIENTS, NUM_RELOADS = 64, 20
GATE_TARGET_S = 0.5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))


async def measure(home: Path) -> None:
    from cai.constitution.store import ConstitutionStore
    from cai.engine.embedded import EmbeddedEngine
    from cai.engine.open import SANDBOX_MODEL
    from cai.settings import Settings
    from server.app import create_app
    from tests.integration.test_live import make_policy, register
    from tests.server.helpers import served

    engine = await EmbeddedEngine.start(str(SANDBOX_MODEL), {"dtype": DTYPE}, served_name="sandbox")
    app = create_app(engine, ConstitutionStore(Path("constitutions")), Settings(home=home))
    for number, name in enumerate(("one", "two"), start=1):
        register(app, make_policy(home, name, engine, number))
    limits = httpx2.Limits(max_connections=NUM_CLIENTS + 4)
    async with (
        served(app) as (url, _),
        httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client,
    ):
        await under_load(client)
    await engine.aclose()


async def under_load(client: httpx2.AsyncClient) -> None:
    expected = {}
    for name in ("one", "two"):
        (await client.post(f"/v1/policies/{name}/promote")).raise_for_status()
        expected[name] = (await stream(client))[1]
    assert expected["one"] != expected["two"], "the policies answer alike"
    done, answers = asyncio.Event(), []

    async def ask() -> None:
        while not done.is_set():
            began = time.monotonic()
            policy, text = await stream(client)
            answers.append((began, time.monotonic(), text == expected.get(policy)))

    async with asyncio.TaskGroup() as group:
        for _ in range(NUM_CLIENTS):
            group.create_task(ask())
        windows, figures = [], []
        for number in range(NUM_RELOADS):
            began, name = time.monotonic(), ("one", "two")[number % 2]
            (await client.post(f"/v1/policies/{name}/promote")).raise_for_status()
            windows.append((began, time.monotonic()))
            told = (await client.get(f"/v1/policies/{name}")).json()["events"]
            figures.append(told[-1]["figures"])
            await asyncio.sleep(0.3)
        done.set()
    report(answers, windows, figures)


def report(
    answers: list[tuple[float, float, bool]],
    windows: list[tuple[float, float]],
    figures: list[dict[str, Any]],
) -> None:
    mixed = sum(not is_whole for _, _, is_whole in answers)
    all_s = sorted(ended - began for began, ended, _ in answers)
    during = sorted(
        ended - began
        for began, ended, _ in answers
        if any(began < closed and ended > opened for opened, closed in windows)
    )
    closed = [one["seconds"] for one in figures]
    grade = "ok" if max(closed) <= GATE_TARGET_S else "ABOVE"
    drained = [one["seconds_drain"] for one in figures]
    print(
        f"{len(answers)} streams of {NUM_CLIENTS} clients over {NUM_RELOADS} reloads: 0 failed, "
        f"{mixed} mixed {'ok' if not mixed else 'NOT OK'}"
    )
    print(
        f"p99 of streams that met a reload: {p99(during):.2f} s (n={len(during)}); of all: "
        f"{p99(all_s):.2f} s, median {statistics.median(all_s):.2f} s"
    )
    print(
        f"gate closed beyond the drain: {statistics.median(closed):.3f} s, at most "
        f"{max(closed):.3f} s (target {GATE_TARGET_S}) {grade}; drains of at most "
        f"{max(drained):.2f} s"
    )


def p99(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0


async def stream(client: httpx2.AsyncClient) -> tuple[str, str]:
    """Who answered, and the whole text of a streamed greedy answer. Raises for any failure."""
    messages = [{"role": "user", "content": "How do I open a jar?"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 12, "stream": True}
    response = await client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    found = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    chunks = [json.loads(line) for line in found if line.startswith("{")]
    if any("error" in chunk for chunk in chunks):
        raise SystemExit(f"a stream failed: {response.text[-300:]}")
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    return response.headers["x-cai-policy"], text


if __name__ == "__main__":
    main()
