"""Runs that stop half-way, for whatever reason, and how the next one goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from cai import pipeline, pipeline_job
from cai.dataset.lock import RunLock
from cai.engine.scripted import ScriptedEngine
from cai.errors import (
    ConfigError,
    ConflictError,
    DataError,
    EngineDeadError,
    EngineError,
)
from tests.unjudged import (
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
    real_keep = pipeline_job.RunWriter.keep

    def keep_on_a_full_disk(self: Any, *args: Any) -> None:
        if not (out / "transcripts.jsonl").exists():
            os.symlink("/dev/full", out / "transcripts.jsonl")
        real_keep(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_job.RunWriter, "keep", keep_on_a_full_disk)
        patch.setattr(pipeline, "FLUSH_S", 0.02)
        with pytest.raises(DataError, match=r"No space left on device; .* run the same command"):
            await generate(prompts, out, delay_s=0.02, concurrency=2)
    (out / "transcripts.jsonl").unlink()
    await generate(prompts, out)
    assert lines(out) == lines(tmp_path / "whole")
