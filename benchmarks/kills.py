"""A judged job of 1,000 prompts on real vLLM, killed with SIGKILL at ten random moments.

It must end with 1,000 inputs accounted for, no pair twice, and the ids of an unbroken run.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM = 1000
KILLS = 10


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        cai("sandbox", "prompts", "-n", str(NUM), "--seed", "5", "--out", str(prompts))
        server = subprocess.Popen(
            [sys.executable, "-m", "cai.cli.main", "serve", "--engine", "sandbox", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip() + "/v1#live"
            wait(address)
            common = [str(prompts), "--engine", address, "-c", "harmless@2", "--max-tokens", "96"]
            common += ["--concurrency", "64"]
            whole, broken = Path(folder) / "whole", Path(folder) / "broken"
            started = time.monotonic()
            cai("data", "generate", *common, "--out", str(whole))
            seconds = time.monotonic() - started
            kills = kill_at_random(common, broken, seconds)
            report(whole, broken, kills)
        finally:
            server.terminate()
            server.wait()


def cai(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cai.cli.main", *arguments], check=True)


def wait(address: str) -> None:
    import urllib.error
    import urllib.request

    url = address.removesuffix("/v1#live") + "/readyz"
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit("the server did not become ready")


def kill_at_random(common: list[str], out: Path, seconds: float) -> int:
    """Kill the job ten times, each after a random part of a whole run's time; then let it end."""
    draw = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        job = subprocess.Popen(
            [sys.executable, "-m", "cai.cli.main", "data", "generate", *common, "--out", str(out)]
        )
        try:
            job.wait(timeout=1.0 + draw.uniform(0.02, 0.12) * seconds)
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.wait()
            killed += 1
    cai("data", "generate", *common, "--out", str(out))
    return killed


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


def report(whole: Path, broken: Path, kills: int) -> None:
    ids = {}
    for run in (whole, broken):
        transcripts = [row["input_id"] for row in read(run / "transcripts.jsonl")]
        rejected = [row["input_id"] for row in read(run / "rejected.jsonl")]
        pairs = read(run / "rows.jsonl")
        kept = {row["input_id"] for row in pairs}
        assert not kept & set(rejected), "an input is kept and rejected"
        assert len(kept) + len(rejected) == NUM, (len(kept), len(rejected))
        assert len(set(rejected)) == len(rejected)
        assert len(set(transcripts)) == len(transcripts)
        assert len({row["id"] for row in pairs}) == len(pairs), "a pair is there twice"
        ids[run] = kept | set(rejected)
        print(f"{run.name}: {len(kept)} kept, {len(rejected)} rejected, {len(pairs)} pairs")
    assert ids[whole] == ids[broken]
    print(f"{kills} kills, {NUM} inputs accounted for, no pair twice, the same ids: ok")


if __name__ == "__main__":
    main()
