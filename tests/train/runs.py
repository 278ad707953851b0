"""Small finished runs and configs for the tests of the trainers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai.dataset.preferences import preference_row
from cai.train.config import CommonConfig, SftConfig
from cai.types import Message

CONSTITUTION = {"ref": "kind@1", "digest": "sha256:" + "c" * 64}


def without_template(model: Path, out: Path) -> Path:
    """A copy of a model folder that has no chat template."""
    skipped = shutil.ignore_patterns("chat_template.jinja")
    return Path(shutil.copytree(model, out, ignore=skipped))


def question(number: int) -> tuple[Message, ...]:
    return (Message("user", f"How do I boil {number} eggs?"),)


def transcript(number: int, **more: Any) -> dict[str, Any]:
    """A draft with two revisions."""
    steps = [
        {"principle": "kind", "critique": "Rude.", "status": "revised", "revision": text}
        for text in (f"Put {number} eggs in.", f"Please put {number} eggs in water.")
    ]
    return {
        "format": 1,
        "id": f"t{number}",
        "input_id": f"i{number}",
        "prompt": [m.as_dict() for m in question(number)],
        "draft": "Go away.",
        "steps": steps,
        "answer": steps[-1]["revision"],
        "constitution": CONSTITUTION,
        **more,
    }


def pair(number: int, **more: Any) -> dict[str, Any]:
    """Two answers to one question, the first the better with 0.9."""
    defaults: dict[str, Any] = {
        "p_chosen": 0.9,
        "source": "ai",
        "chosen": f"Please put {number} eggs in water.",
        "rejected": "Go away.",
        "constitution": CONSTITUTION,
    }
    return preference_row(prompt=question(number), **(defaults | more))


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_run(folder: Path, num: int = 12) -> Path:
    """A finished run directory with `num` transcripts and a pair for each."""
    folder.mkdir(parents=True)
    write_lines(folder / "transcripts.jsonl", map(transcript, range(num)))
    write_lines(folder / "rows.jsonl", map(pair, range(num)))
    (folder / "DONE").write_text("{}")
    return folder


def settings(folder: Path, data: Path, **more: Any) -> dict[str, Any]:
    """The common settings of a small run below `folder`."""
    return {
        "data": (data,),
        "name": "tiny",
        "run_dir": folder / "run",
        "out": folder / "policies" / "tiny",
        "batch_size": 4,
        "num_threads": 1,
        "num_probes": 4,
        **more,
    }


def sft_config(folder: Path, data: Path, policy: Path, **more: Any) -> SftConfig:
    return SftConfig(**settings(folder, data, policy=str(policy), **more))


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def resolved(config: CommonConfig) -> CommonConfig:
    return config.resolved(1_000_000, context=512)
