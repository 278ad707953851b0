"""A side: an HTTP server (ours or vLLM's own) with 32 clients in this process."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import httpx2

from benchmarks.models import DTYPE, first_turns, quiet_environment
from benchmarks.sides import serve_commands

NUM_CLIENTS = 32
NUM_REQUESTS = 256
MAX_TOKENS = 64
BATCH = 128


def main(which: str, model: str) -> None:
    port = free_port()
    start_server(which, model, port)
    turns = first_turns(NUM_REQUESTS)
    name = "live" if which == "cai" else "m"

    with asyncio.Runner() as runner:
        client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            timeout=300,
            limits=httpx2.Limits(max_connections=NUM_CLIENTS),
        )

        def handle(_command: dict[str, Any]) -> dict[str, Any]:
            started = time.perf_counter()
            tokens = runner.run(load(client, name, turns))
            return {"tokens_per_s": tokens / (time.perf_counter() - started), "tokens": tokens}

        serve_commands(handle)


def start_server(which: str, model: str, port: int) -> None:
    """Start our server (`cai`) or vLLM's own (`vllm`) and wait until it answers."""
    quiet_environment()
    start = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    start += ["--enforce-eager", "--max-num-seqs", str(BATCH), "--generation-config", "vllm"]
    start += ["--port", str(port), "--host", "127.0.0.1", "--served-model-name", "m"]
    start += ["--disable-log-stats", "--uvicorn-log-level", "warning"]
    start += ["--dtype", DTYPE]
    if which == "cai":
        start = [sys.executable, "-m", "cai.cli.main", "serve", "--engine", f"vllm:{model}"]
        start += ["--port", str(port), "--engine-arg", f"max_num_seqs={BATCH}"]
        start += ["--engine-arg", f"dtype={DTYPE}"]
    server = subprocess.Popen(start, stdout=sys.stderr, env={**os.environ})
    wait_until_ready(f"http://127.0.0.1:{port}", server, "/readyz" if which == "cai" else "/health")


async def load(client: httpx2.AsyncClient, model: str, turns: list[str]) -> int:
    """All turns through NUM_CLIENTS clients; returns the tokens generated."""
    waiting = iter(turns)
    total = 0

    async def one_client() -> None:
        nonlocal total
        for turn in waiting:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": turn}],
                "max_tokens": MAX_TOKENS,
                "temperature": 1.0,
            }
            response = await client.post("/v1/chat/completions", json=body)
            response.raise_for_status()
            total += response.json()["usage"]["completion_tokens"]

    async with asyncio.TaskGroup() as group:
        for _ in range(NUM_CLIENTS):
            group.create_task(one_client())
    return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes], path: str) -> None:
    """Poll until the server answers 200, or has ended."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(url + path, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"the server ended with {server.returncode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
