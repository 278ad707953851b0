"""The batch pipeline on a scripted engine: each input kept, rejected or owed, whatever happens.

These runs have no judge and keep whole transcripts; `test_pipeline_judged` has those with one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cai.engine.scripted import ScriptedEngine
from cai.errors import (
    ConfigError,
    ContextLengthError,
    EngineTimeoutError,
    NotFoundError,
    OverloadedError,
)
from tests.unjudged import (
    CONSTITUTION,
    accounted,
    answer,
    failing,
    generate,
    lines,
    rows,
    write_prompts,
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.txt", 20)


async def test_every_input_becomes_a_transcript(prompts: Path, tmp_path: Path) -> None:
    """2 + 4 words of prompt and answer; 2, 8, 17 tokens of prompt in the three calls."""
    out = tmp_path / "run"
    summary = await generate(prompts, out)
    assert (summary.progress.counts.kept, summary.progress.inputs) == (20, 20)
    assert (out / "DONE").exists()
    row = sorted(rows(out), key=lambda row: row["line"])[3]
    assert row["prompt"] == [{"role": "user", "content": "prompt 003"}]
    assert row["draft"] == "A long reply to 'prompt 003'."
    assert row["answer"] == "A short reply."
    (step,) = row["steps"]
    assert step["critique"] == "It is too long."
    assert step["principle"] in {"p0", "p1", "p2", "p3"}
    assert row["usage"]["completion_tokens"] == 6 + 4 + 3
    assert row["constitution"] == {"ref": "t@1", "digest": CONSTITUTION.digest}


async def test_manifest_says_what_was_run_on_what(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    await generate(prompts, out, revisions=2)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["config"]["revisions"] == 2
    assert manifest["config_digest"].startswith("sha256:")
    assert manifest["constitution"]["digest"] == CONSTITUTION.digest
    assert manifest["engine"]["engine"] == "scripted"
    assert manifest["counts"]["inputs"] == manifest["counts"]["kept"] == 20
    assert manifest["sessions"][0]["started_at"] <= manifest["sessions"][0]["ended_at"]


async def test_rows_do_not_depend_on_order_or_concurrency(prompts: Path, tmp_path: Path) -> None:
    await generate(prompts, tmp_path / "a", concurrency=1)
    await generate(prompts, tmp_path / "b", concurrency=7, delay_s=0.001)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


async def test_another_seed_draws_other_principles(prompts: Path, tmp_path: Path) -> None:
    await generate(prompts, tmp_path / "a")
    await generate(prompts, tmp_path / "b", seed=1)
    drawn = [
        {row["line"]: row["steps"][0]["principle"] for row in rows(tmp_path / name)}
        for name in "ab"
    ]
    assert drawn[0] != drawn[1]


async def test_engine_stays_full_until_the_inputs_run_out(prompts: Path, tmp_path: Path) -> None:
    """Twenty inputs, eight at once, three calls each: seven are still in flight at call 53."""
    in_flight: list[int] = []

    class Watched(ScriptedEngine):
        now = 0

        async def generate(self, *args: Any) -> Any:
            self.now += 1
            in_flight.append(self.now)
            try:
                return await super().generate(*args)
            finally:
                self.now -= 1

    engine = Watched(lambda prompt, _: answer(prompt.messages[-1].content), delay_s=0.005)
    await generate(prompts, tmp_path / "run", engine=engine, concurrency=8)
    assert len(in_flight) == 60
    assert max(in_flight) == 8
    assert min(in_flight[8:52]) >= 6


@pytest.mark.parametrize(
    ("on", "stage"),
    [("prompt 007", "draft"), ("Find fault", "critique-1"), ("Rewrite", "revision-1")],
)
async def test_too_long_an_input_is_rejected_with_its_stage(
    tmp_path: Path, on: str, stage: str
) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("prompt 007\n")
    answers = failing(on, lambda: ContextLengthError("9 tokens, the context holds 8"))
    await generate(prompts, tmp_path / "run", answers)
    (row,) = rows(tmp_path / "run", "rejected.jsonl")
    assert (row["stage"], row["reason"], row["line"]) == (stage, "context-length", 1)
    assert row["detail"] == "9 tokens, the context holds 8"


async def test_unusable_lines_are_rejected_where_they_stand(tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_bytes(b'{"prompt": "Hi"}\n{\n{"prompt": ""}\n{"prompt": "Hi"}\n')
    out = tmp_path / "run"
    summary = await generate(prompts, out)
    assert {(row["line"], row["stage"], row["reason"]) for row in rows(out, "rejected.jsonl")} == {
        (2, "read", "invalid-json"),
        (3, "read", "empty-prompt"),
    }
    assert (summary.progress.counts.kept, summary.progress.counts.duplicates) == (2, 1)
    assert len(set(accounted(out))) == 4


async def test_empty_draft_is_rejected(tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("Hi\n")
    await generate(prompts, tmp_path / "run", "")
    (row,) = rows(tmp_path / "run", "rejected.jsonl")
    assert (row["stage"], row["reason"]) == ("draft", "empty-draft")


async def test_time_out_of_one_input_rejects_it(prompts: Path, tmp_path: Path) -> None:
    answers = failing("prompt 019", lambda: EngineTimeoutError("no answer within 5 s"))
    summary = await generate(prompts, tmp_path / "run", answers)
    assert summary.progress.counts.kept == 19
    assert summary.progress.counts.rejected == {"engine-timeout": 1}


async def test_error_of_the_settings_stops_the_run(prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such parameter"):
        await generate(
            prompts, tmp_path / "run", failing("", lambda: ConfigError("no such parameter"))
        )


async def test_full_queue_is_waited_for(prompts: Path, tmp_path: Path) -> None:
    refused = set()

    def full_once(text: str) -> str:
        if text not in refused and text.startswith("prompt"):
            refused.add(text)
            raise OverloadedError("full", retry_after_s=0.01)
        return answer(text)

    summary = await generate(prompts, tmp_path / "run", full_once)
    assert summary.progress.counts.kept == 20
    assert len(refused) == 20


async def test_unknown_principle_is_refused_before_anything_is_made(
    prompts: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="p9"):
        await generate(prompts, tmp_path / "run", principles=("p9",))
    assert not (tmp_path / "run").exists()


async def test_progress_ends_at_the_number_of_inputs(prompts: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    await generate(
        prompts, tmp_path / "run", on_progress=lambda now: seen.append(now.counts.accounted)
    )
    assert seen[-1] == 20
    assert seen == sorted(seen)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Peak of a whole process, imports included: 10,000 rows at most a tenth above 500."""
    code = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.unjudged import generate, write_prompts
folder = Path(sys.argv[2])
prompts = write_prompts(folder / f"{sys.argv[3]}.txt", int(sys.argv[3]))
asyncio.run(generate(prompts, folder / f"run-{sys.argv[3]}"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, Path(__file__).parents[1], tmp_path, str(num)],
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout
        )
        for num in (500, 10_000)
    ]
    assert peaks[1] < 1.1 * peaks[0], peaks
