"""Sealed policy folders of a few bytes, and a registry over a database of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cai.db import Database, open_database
from cai.policy.manifest import seal
from cai.policy.registry import PolicyRegistry
from cai.settings import Settings
from tests.engine.test_weights import entry, write

FIELDS = {"kind": "full", "method": "sft", "base": "sandbox"}


def sealed(home: Path, name: str, *, content: str = "", **fields: Any) -> Path:
    """`policies/<name>` below `home`: as small as a policy can be; `content` decides its digest."""
    folder = home / "policies" / name
    folder.mkdir(parents=True)
    is_lora = fields.get("kind") == "lora"
    config = f'{{"made_by": "{content or name}"}}'
    (folder / ("adapter_config.json" if is_lora else "config.json")).write_text(config)
    write(folder / "model.safetensors", {"a": entry()})
    seal(folder, **{**FIELDS, "name": name, **fields})
    return folder


def opened(home: Path) -> Database:
    """The database below `home`, for the caller to close."""
    return open_database(Settings(home=home))


def register(registry: PolicyRegistry, home: Path, name: str, **fields: Any) -> str:
    """The id of a new policy that was verified."""
    record = registry.add(sealed(home, name, **fields), actor="test")
    return registry.verified(record.id, {"max_abs_diff": 1e-6}, "test").id
