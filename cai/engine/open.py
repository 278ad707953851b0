"""From an engine's address to an engine. The one call: `open_engine`.

`sandbox` · `vllm:<folder or hub id>` · `policy:<ref>` · `http(s)://host:port/v1#model` ·
`scripted:<file.yaml>`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.engine.base import Engine
from cai.errors import ConfigError
from cai.registry import load_object

SANDBOX_MODEL = Path(__file__).parent.parent / "sandbox" / "model"
_SANDBOX_OPTIONS: Mapping[str, Any] = {"dtype": "float32"}
"""A model so small and so sure of its words is off by tenths of a nat in bf16, where processors
compute in it; and its figures are to be the same on every machine."""
FORMS = (
    "sandbox, vllm:<folder or hub id>, policy:<ref>, http(s)://host:port/v1#model, "
    "scripted:<file.yaml>"
)


async def open_engine(address: str, *, options: Mapping[str, Any] | None = None) -> Engine:
    """Open the engine at `address` and wait until it can answer. Close it with `aclose`.

    `options` are vLLM's engine arguments by name; only an embedded engine takes them.
    Raises ConfigError when the address or an option will not do.
    """
    scheme, _, rest = address.partition(":")
    scheme = scheme.lower()
    if options and scheme not in ("sandbox", "vllm", "policy"):
        raise ConfigError(f"engine arguments {sorted(options)} need an embedded engine ({FORMS})")
    if address == "sandbox":
        from cai.engine.embedded import EmbeddedEngine

        given = {**_SANDBOX_OPTIONS, **(options or {})}
        return await EmbeddedEngine.start(str(SANDBOX_MODEL), given, served_name="sandbox")
    if scheme == "vllm" and rest:
        from cai.engine.embedded import EmbeddedEngine

        return await EmbeddedEngine.start(_expanded(rest), options)
    if scheme == "policy" and rest:
        from cai.engine.embedded import EmbeddedEngine

        folder = load_object("cai.policy.address:folder_of")(rest)  # it may not be imported here
        return await EmbeddedEngine.start(str(folder), options, served_name=rest)
    if scheme in ("http", "https"):
        from cai.engine.remote import RemoteEngine

        return await RemoteEngine.connect(address)
    if scheme == "scripted" and rest:
        from cai.engine.scripted import ScriptedEngine

        return ScriptedEngine.from_file(Path(_expanded(rest)))
    raise ConfigError(f"'{address}' is no engine address; use one of: {FORMS}")


async def pinned(address: str) -> str:
    """The same address, and that of the policy itself where a server of ours says `live`.

    For measurements: what goes to `live` is shared out by an A/B split, and changes with a
    promotion. Raises ConfigError for no such model, EngineDeadError where nobody answers.
    """
    if not address.lower().startswith(("http://", "https://")):
        return address
    from cai.engine.remote import policy_address

    return await policy_address(address)


def parse_engine_argument(text: str) -> tuple[str, Any]:
    """`name=value` from a command line; the value is read as JSON where it is JSON."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"'{text}' is no engine argument; write name=value")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = {"true": True, "false": False}.get(value.lower(), value)
    return name.strip().replace("-", "_"), parsed


def _expanded(path: str) -> str:
    """`~` as a shell reads it; a shell leaves it alone after `vllm:`."""
    return os.path.expanduser(path) if path.startswith("~") else path
