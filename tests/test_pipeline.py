"""The batch pipeline on a scripted engine: each input kept, rejected or owed, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai import pipeline
from cai.constitution.schema import Constitution
from cai.dataset.lock import RunLock
from cai.engine.scripted import ScriptedEngine
from cai.errors import (
    ConfigError,
    ConflictError,
    ContextLengthError,
    DataError,
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    NotFoundError,
    OverloadedError,
)
from cai.pipeline import Summary, run
from cai.pipeline_config import GenerateConfig

CONSTITUTION = Constitution.model_validate(
    {
        "name": "t",
        "version": 1,
        "title": "Test",
        "principles": [
            {"id": f"p{i}", "critique": f"Find fault {i}.", "revision": f"Rewrite {i}."}
            for i in range(4)
        ],
    }
)


def answer(text: str) -> str:
    if text.startswith("Find fault"):
        return "It is too long."
    if text.startswith("Rewrite"):
        return "A short reply."
    return f"A long reply to {text!r}."


def failing(on: str, error: Callable[[], Exception]) -> Callable[[str], str]:
    """Answers all but what contains `on`, which raises."""

    def answer_or_raise(text: str) -> str:
        if on in text:
            raise error()
        return answer(text)

    return answer_or_raise


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.txt", 20)


def write_prompts(path: Path, num: int) -> Path:
    path.write_text("".join(f"prompt {i:03d}\n" for i in range(num)))
    return path


async def generate(
    prompts: Path,
    out: Path,
    answers: Callable[[str], str] | str = answer,
    *,
    mode: Any = "auto",
    delay_s: float = 0.0,
    engine: ScriptedEngine | None = None,
    on_progress: pipeline.OnProgress | None = None,
    **config: Any,
) -> Summary:
    return await run(
        GenerateConfig(prompts=prompts, out=out, **config),
        CONSTITUTION,
        mode=mode,
        engine=engine or ScriptedEngine.answering(answers, delay_s=delay_s),
        on_progress=on_progress,
    )


def rows(out: Path, name: str = "transcripts.jsonl") -> list[dict[str, Any]]:
    path = out / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def accounted(out: Path) -> list[str]:
    return sorted(row["input_id"] for row in (*rows(out), *rows(out, "rejected.jsonl")))


def lines(out: Path) -> set[bytes]:
    return set((out / "transcripts.jsonl").read_bytes().splitlines())


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


async def test_engine_that_fails_every_input_stops_the_run_and_rejects_none(
    prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(EngineError, match="failed on 20 inputs in a row, last with: broken"):
        await generate(prompts, out, failing("", lambda: EngineError("broken")))
    assert accounted(out) == []
    await generate(prompts, out)
    assert len(accounted(out)) == 20


async def test_engine_that_begins_to_fail_stops_the_run_before_the_rest_is_tried(
    tmp_path: Path,
) -> None:
    prompts = write_prompts(tmp_path / "p.txt", 200)
    calls = []

    def fails_later(text: str) -> str:
        calls.append(text)
        if len(calls) > 30:
            raise EngineError("broken")
        return answer(text)

    out = tmp_path / "run"
    with pytest.raises(EngineError, match="failed on 64 inputs in a row"):
        await generate(prompts, out, fails_later, concurrency=2)
    assert len(rows(out)) == 10
    assert rows(out, "rejected.jsonl") == []


async def test_dead_engine_stops_the_run_and_the_rest_stays_owed(
    prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(EngineDeadError):
        await generate(
            prompts, out, failing("prompt 009", lambda: EngineDeadError("gone")), concurrency=1
        )
    assert len(accounted(out)) == 9
    assert not (out / "DONE").exists()
    await generate(prompts, out)
    assert len(set(accounted(out))) == len(accounted(out)) == 20


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


async def test_cancelled_run_goes_on_where_it_stopped(prompts: Path, tmp_path: Path) -> None:
    await generate(prompts, tmp_path / "whole")
    out = tmp_path / "run"
    task = asyncio.create_task(generate(prompts, out, delay_s=0.02, concurrency=4))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = accounted(out)
    assert 0 < len(before) < 20
    summary = await generate(prompts, out, mode="resume")
    assert summary.progress.session_inputs == 20 - len(before)
    assert lines(out) == lines(tmp_path / "whole")


async def test_finished_run_is_left_as_it_is(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    await generate(prompts, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "lock"}
    engine = ScriptedEngine.answering(answer)
    summary = await generate(prompts, out, engine=engine)
    assert not summary.worked
    assert engine.num_calls == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "lock"}
    assert after == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"revisions": 2}, "revisions was 1 and is 2"),
        ({"seed": 5}, "seed was 0 and is 5"),
        ({"temperature": 0.5}, "temperature was 1.0 and is 0.5"),
        ({"principles": ("p1",)}, r"principles was None and is \['p1'\]"),
    ],
)
async def test_other_setting_is_refused_by_name(
    prompts: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    await generate(prompts, tmp_path / "run")
    with pytest.raises(ConfigError, match=told):
        await generate(prompts, tmp_path / "run", **change)
    await generate(prompts, tmp_path / "run", mode="fresh", **change)


async def test_changed_prompt_file_is_refused(prompts: Path, tmp_path: Path) -> None:
    await generate(prompts, tmp_path / "run")
    prompts.write_text(prompts.read_text() + "one more\n")
    with pytest.raises(ConfigError, match=r"prompts was sha256:.* and is sha256:"):
        await generate(prompts, tmp_path / "run")


async def test_other_engine_behind_the_same_address_is_refused(
    prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(EngineDeadError):
        await generate(prompts, out, failing("prompt 009", lambda: EngineDeadError("gone")))
    other = ScriptedEngine.answering(answer, digest="sha256:other")
    with pytest.raises(ConfigError, match="engine's digest was None and is sha256:other"):
        await generate(prompts, out, engine=other)


async def test_raised_limit_extends_the_run_and_a_lower_one_is_refused(
    prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    await generate(prompts, out, limit=5)
    assert sorted(row["line"] for row in rows(out)) == [1, 2, 3, 4, 5]
    summary = await generate(prompts, out, limit=8)
    assert summary.progress.session_inputs == 3
    assert len(set(accounted(out))) == 8
    with pytest.raises(ConfigError, match="already has 8 inputs and the limit is 2"):
        await generate(prompts, out, limit=2)


async def test_second_run_into_one_directory_is_refused(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    lock = RunLock.take(out)
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        await generate(prompts, out)
    lock.release()
    await generate(prompts, out)


async def test_full_disk_stops_the_run_which_goes_on_once_there_is_room(
    prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    await generate(prompts, tmp_path / "whole")
    real_keep = pipeline.RunWriter.keep

    def keep_on_a_full_disk(self: Any, *args: Any) -> None:
        if not (out / "transcripts.jsonl").exists():
            os.symlink("/dev/full", out / "transcripts.jsonl")
        real_keep(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.RunWriter, "keep", keep_on_a_full_disk)
        patch.setattr(pipeline, "FLUSH_S", 0.02)
        with pytest.raises(DataError, match=r"No space left on device; .* run the same command"):
            await generate(prompts, out, delay_s=0.02, concurrency=2)
    (out / "transcripts.jsonl").unlink()
    await generate(prompts, out)
    assert lines(out) == lines(tmp_path / "whole")


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
from tests.test_pipeline import generate, write_prompts
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
