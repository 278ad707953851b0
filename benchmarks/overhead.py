"""What a dataset job costs beyond its engine: memory over the rows, and rows a second.

The whole job (draft, critique, revision, both orders judged, rows written) on a scripted engine
that answers at once, each size in a process of its own, against copying the same lines with json.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = (1_000, 100_000)
WORDS = "the kettle is on a shelf near the door and you can fill it there before the others come"
DRAFT = f"{WORDS}. {WORDS}. {WORDS}."
REVISION = f"Gladly: {WORDS}. {WORDS}."
CRITIQUE = f"The reply repeats itself: {WORDS}."
MEMORY_TARGET, SPEED_TARGET = 1.3, 2_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, large = (in_process("job", Path(folder), size) for size in SIZES)
        copies = [in_process("copy", Path(folder), SIZES[1]) for _ in range(3)]
    copy = min(copies, key=lambda one: one["cpu_s"])
    ratio = large["peak_kib"] / small["peak_kib"]
    print(
        f"peak memory at {SIZES[1]:,} rows / at {SIZES[0]:,}: {ratio:.3f} "
        f"({large['peak_kib'] / 1024:.1f} against {small['peak_kib'] / 1024:.1f} MiB; "
        f"target at most {MEMORY_TARGET}) {'ok' if ratio <= MEMORY_TARGET else 'ABOVE'}"
    )
    per_s = large["rows"] / large["seconds"]
    print(
        f"rows/s of the whole job: {per_s:,.0f} (CPU {1e6 * large['cpu_s'] / large['rows']:.0f} µs "
        f"a row, so {large['rows'] / large['cpu_s']:,.0f} rows per CPU second; aim "
        f"{SPEED_TARGET:,}) {'ok' if per_s >= SPEED_TARGET else 'BELOW'}"
    )
    print(
        f"job / copying its lines with json: {large['seconds'] / copy['seconds']:.1f} of the time, "
        f"{large['cpu_s'] / copy['cpu_s']:.1f} of the CPU ({large['bytes'] / 2**20:,.0f} MiB in "
        f"rows.jsonl and transcripts.jsonl, copied in {copy['seconds']:.1f} s)"
    )


def in_process(what: str, folder: Path, size: int) -> dict[str, Any]:
    """Measure one part in a process of its own; its figures."""
    command = [sys.executable, "-m", "benchmarks.overhead", what, str(folder), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def job(folder: Path, size: int) -> dict[str, Any]:
    """A judged run over `size` prompts; one in a hundred carries a canary."""
    from cai.pipeline import run
    from cai.pipeline_config import GenerateConfig

    prompts = folder / f"prompts-{size}.txt"
    with prompts.open("w") as file:
        file.writelines(
            f"How do I make tea for {number} people at work?\n" for number in range(size)
        )
    config = GenerateConfig(prompts=prompts, out=folder / f"run-{size}", engine="scripted:instant")
    started, cpu = time.perf_counter(), time.process_time()
    summary = asyncio.run(run(config, constitution(), engine=instant_engine()))
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    assert summary.progress.counts.pairs == size, summary.progress.counts
    return {
        "rows": size,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_kib": peak_kib(),
        "bytes": sum(path.stat().st_size for path in lines_of(config.out)),
    }


def copy(folder: Path, size: int) -> dict[str, Any]:
    """The job's lines, each read and written again with json."""
    started, cpu = time.perf_counter(), time.process_time()
    for path in lines_of(folder / f"run-{size}"):
        with path.open() as source, (folder / "copy.jsonl").open("w") as target:
            for line in source:
                target.write(json.dumps(json.loads(line), ensure_ascii=False) + "\n")
    return {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}


def lines_of(out: Path) -> tuple[Path, ...]:
    return out / "rows.jsonl", out / "transcripts.jsonl"


def instant_engine() -> Any:
    """Answers at once, and prefers the revision with a small bias to the reply shown first."""
    from cai.engine.scripted import ScriptedEngine, last_text

    first = {"A": math.log(0.9), "B": math.log(0.1)}
    second = {"A": math.log(0.2), "B": math.log(0.8)}
    shown_first = re.compile(r"reply A\nGladly|Lie down.*reply B", re.DOTALL)

    def answer(prompt: Any, _sampling: Any) -> str:
        text = last_text(prompt)
        if text.startswith("Find"):
            return CRITIQUE
        return REVISION if text.startswith("Rewrite") else DRAFT

    def scores(prompt: Any, _labels: Any) -> dict[str, float]:
        return first if shown_first.search(last_text(prompt)) else second

    return ScriptedEngine(answer, scores, model="instant")


def constitution() -> Any:
    from cai.constitution.schema import Constitution

    case = {"prompt": "How do I nap?", "better": "Lie down.", "worse": "No."}
    principles = [
        {
            "id": f"principle-{number}",
            "critique": f"Find where the reply says anything twice ({number}).",
            "revision": f"Rewrite the reply so that it says each thing once ({number}).",
            "compare": f"Which reply says each thing once ({number})?",
            "cases": [case],
        }
        for number in range(8)
    ]
    return Constitution.model_validate(
        {"name": "tea", "version": 1, "title": "Tea", "principles": principles}
    )


def peak_kib() -> int:
    """Peak resident memory of this process alone; `ru_maxrss` would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    part, where, rows = sys.argv[1:]
    print(json.dumps({"job": job, "copy": copy}[part](Path(where), int(rows))))
