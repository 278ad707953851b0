"""A side: TRL 1.12.0's PPO in its own environment, which speaks the sides' protocol itself."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.sides import serve_commands


def main(policy: str, reward: str, ids: str, settings: str, python: str) -> None:
    child = subprocess.Popen(
        [python, "benchmarks/trl_ppo/side.py", policy, reward, ids, settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
    )

    def answer() -> dict[str, Any]:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith('{"'):  # it prints its metrics as Python's dicts
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit("TRL ended")

    def handle(_command: dict[str, Any]) -> dict[str, Any]:
        assert child.stdin is not None
        child.stdin.write("run\n")
        child.stdin.flush()
        return answer()

    answer()
    serve_commands(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
