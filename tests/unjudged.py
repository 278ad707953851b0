"""Runs without a judge on a scripted engine, for the tests of the pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai import pipeline
from cai.constitution.schema import Constitution
from cai.engine.scripted import ScriptedEngine
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
        GenerateConfig(prompts=prompts, out=out, judge="none", **config),
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
