"""An engine under real vLLM ends with the process that owns it, however that one ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

pytestmark = pytest.mark.vllm

OWNER = """
import asyncio, sys, warnings
warnings.simplefilter("ignore")
from cai.engine.embedded import EmbeddedEngine
from cai.types import Sampling, TextPrompt

async def main():
    engine = await EmbeddedEngine.start(sys.argv[1])
    endless = Sampling(max_tokens=None, temperature=2.0)
    calls = [asyncio.create_task(engine.generate(TextPrompt("a"), endless)) for _ in range(3)]
    print(*engine.pids(), engine._guardian._process.pid, flush=True)
    await asyncio.sleep(300)

if __name__ == "__main__":
    asyncio.run(main())
"""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_killed_owner_leaves_nothing_behind(model_folder, tmp_path):
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    process = subprocess.Popen(
        [sys.executable, str(script), str(model_folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        pids = [int(pid) for pid in line.split()]
        assert len(pids) >= 2
        assert all(map(lives, pids))
        process.kill()
        async with asyncio.timeout(10):
            while any(map(lives, pids)):
                await asyncio.sleep(0.1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
