"""An adapter that was trained from a policy of ours answers on that policy, not on its base."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cai.errors import PolicyError
from cai.policy.manifest import seal
from cai.policy.reload import load_adapter
from tests.engine.test_weights import entry, write
from tests.policy.test_reload import make_folder
from tests.server.test_live import PROBE, Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """The policy `parent`, made from the engine's model, and an adapter `small` on it."""
    found = Place(tmp_path)
    parent = found.full("parent")
    folder = found.folder / "small"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"made_by": "small"}))
    write(folder / "adapter_model.safetensors", {"a": entry()})
    seal(
        folder,
        **{"name": "small", "kind": "lora", "method": "dpo", "probes": (PROBE,)},
        **{"base": "b", "base_digest": "sha256:base"},
        **{"parent": "parent", "parent_digest": parent.digest},
    )
    found.registry.add(folder, actor="t")
    yield found
    found.stores.close()


async def test_it_is_loaded_beside_its_parent_and_not_beside_the_base(place: Place) -> None:
    with pytest.raises(PolicyError, match=r"for 'parent' .* answers with 'base'"):
        await load_adapter(place.engine, place.folder / "small")
    await place.promote("parent", "small")
    assert (place.live.name, place.engine.adapters()) == ("small", ["small"])
    assert place.states("parent", "small") == ["retired", "live"]


async def test_the_way_back_to_it_and_a_start_load_its_parent_below(place: Place) -> None:
    make_folder(place.folder, "other")
    place.reseal("other")  # so that its digest is another than the parent's
    place.registry.add(place.folder / "other", actor="t")
    await place.promote("parent", "small", "other")
    await place.rollback()
    assert (place.engine.identity().model, place.engine.adapters()) == ("parent", ["small"])

    change = place.live._change
    assert change is not None
    await place.engine.swap_back(change.base)
    await place.live._restore(change)
    assert (place.engine.identity().model, place.live.name) == ("parent", "small")
