"""An app whose home has registered policies, for the tests of the routes that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI

from cai.policy.registry import PolicyRegistry
from tests.policy.registering import opened, register, sealed
from tests.server.helpers import make_app


def app_with_policies(root: Path, **settings: Any) -> FastAPI:
    """`first` retired, `second` live, `adapter` verified, `fresh` a candidate, `bad` rejected."""
    home = root / "home"
    with opened(home) as database:
        registry = PolicyRegistry(database, home)
        for name in ("first", "second"):
            register(registry, home, name)
            registry.make_live(name, "good", {"rate": 0.5}, "me")
        register(registry, home, "adapter", kind="lora")
        for name in ("fresh", "bad"):
            registry.add(sealed(home, name), actor="me")
        registry.reject("bad", "a tensor is missing", {}, "me")
    return make_app(root, home=home, **settings)
