"""Small run directories and rows for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai.dataset.records import FORMAT, rejected_row
from cai.files import digest_json

CONFIG_DIGEST = digest_json("config")


def input_id(number: int) -> str:
    return digest_json(number)


def transcript(number: int, **extra: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return {
        "format": FORMAT,
        "id": f"t{number}",
        "input_id": input_id(number),
        "usage": usage,
        **extra,
    }


def pair(number: int, which: int = 0) -> dict[str, Any]:
    return {"format": FORMAT, "id": f"p{number}.{which}", "input_id": input_id(number)}


def rejected(number: int, reason: str = "context-length", stage: str = "draft") -> dict[str, Any]:
    return rejected_row(
        input_id(number),
        number,
        stage=stage,
        reason=reason,
        detail="",
        config_digest=CONFIG_DIGEST,
    )


def manifest(**config: Any) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "config_digest": digest_json(config),
        "config": config,
        "constitution": {"ref": "t@1", "digest": "sha256:0"},
        "engine": {"engine": "scripted"},
        "prompts": {"path": "p.jsonl", "digest": "sha256:0", "inputs": 10},
        "sessions": [{"started_at": "2026-01-01T00:00:00.000+00:00", "pid": 1, "from": 0}],
    }


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]
