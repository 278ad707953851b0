"""A live policy whose files are damaged: another one answers after a start, and it is on record."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cai.errors import PolicyError
from server.changeover import Changeover
from tests.policy.test_reload import Engine as SwapOnly
from tests.server.test_live import PROBE, Engine, Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(tmp_path)
    yield found
    found.stores.close()


async def started(place: Place) -> SwapOnly:
    """Another engine, opened on the base, as a start or the keeper brings it up."""
    engine = Engine(place.folder / "base")
    change = Changeover(engine, place.admission, drain_s=5, base_probes=(PROBE,))
    place.live.detach()
    await place.live._restore(change)
    place.live._engine, place.live._change = engine, change
    return engine


async def test_the_policy_from_before_answers_and_the_damaged_one_is_retired(place: Place) -> None:
    for name in ("first", "second"):
        place.full(name)
    await place.promote("first", "second")
    (place.folder / "second" / "config.json").write_text('{"torn')
    engine = await started(place)
    assert (engine.identity().model, place.live.name) == ("first", "first")
    assert place.states("first", "second") == ["live", "retired"]
    event = place.registry.events("first")[-1]
    assert event.reason.startswith("'second' could not be loaded at a start: ")
    assert event.actor == "server"


@pytest.mark.parametrize("is_there", [False, True])
async def test_without_one_that_loads_the_engines_own_model_answers(
    place: Place, is_there: bool
) -> None:
    place.full("first")
    place.lora("small", place.registry.get("first").digest)
    await place.promote("first")
    if is_there:
        await place.promote("small")
    shutil.rmtree(place.folder / "first")
    engine = await started(place)
    assert (engine.identity().model, place.live.name) == ("base", "base")
    assert engine.adapters() == []
    assert place.registry.live() is None
    assert place.states("first") == ["retired"]


async def test_an_adapter_falls_back_to_the_weights_below_it(place: Place) -> None:
    below = place.full("below")
    place.lora("small", below.digest)
    await place.promote("below", "small")
    (place.folder / "small" / "adapter_config.json").write_text('{"torn')
    await started(place)
    assert place.live.name == "below"
    assert place.states("below", "small") == ["live", "retired"]


async def test_a_policy_that_is_whole_and_of_another_engine_stays_live(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts a server on another model by mistake loses no policy by it."""
    place.full("first")
    await place.promote("first")

    async def refuse(*_args: object, **_fields: object) -> None:
        raise PolicyError("its architecture is another")

    monkeypatch.setattr(Engine, "swap", refuse)
    with pytest.raises(PolicyError, match="the live policy 'first' cannot be loaded"):
        await started(place)
    assert place.states("first") == ["live"]
