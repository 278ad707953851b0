"""A side: vLLM's OpenAI server, and distilabel in its own environment asking it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.server_side import free_port, start_server
from benchmarks.sides import serve_commands


def main(model: str, rows: str, max_tokens: str, batch: str, python: str) -> None:
    port = free_port()
    start_server("vllm", model, port)
    script = "benchmarks/distilabel/side.py"
    client = subprocess.Popen(
        [python, script, f"http://127.0.0.1:{port}/v1", rows, max_tokens, batch],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None

    def answer() -> dict[str, Any]:
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit("distilabel ended")

    def handle(_command: dict[str, Any]) -> dict[str, Any]:
        assert client.stdin is not None
        client.stdin.write("run\n")
        client.stdin.flush()
        return answer()

    answer()
    serve_commands(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
