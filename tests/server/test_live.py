"""Which policy answers, on a stand-in engine: what the registry says and what is loaded agree.

The stand-in has one place for an adapter; `tests/integration/test_live.py` asks real vLLM.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cai.errors import ConflictError, DatabaseError, EngineDeadError, PolicyError, ReloadError
from cai.policy.manifest import Probe, seal
from cai.policy.records import PolicyRecord
from cai.policy.registry import PolicyRegistry
from cai.settings import Settings
from server.changeover import Changeover
from server.limits import Admission
from server.live import LivePolicies
from server.sleeping import Sleeper
from server.stores import Stores
from tests.engine.test_weights import entry, write
from tests.policy.test_reload import IDENTITY, make_folder
from tests.policy.test_reload import Engine as SwapOnly

PROBE = Probe(prompt_ids=(5,), continuation_ids=(6, 7), logprobs=(-1.0, -1.0))


class Engine(SwapOnly):
    """Adapters beside the weights, which a swap forgets."""

    num_places = 1

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.held: dict[str, Path] = {}

    def adapters(self) -> list[str]:
        return list(self.held)

    def adapter(self, name: str) -> Engine:
        assert name in self.held, name
        return self

    async def swap(self, folder: Path, **fields: Any) -> Any:
        self.held = {}
        return await super().swap(folder, **fields)

    async def swap_back(self, previous: Any) -> None:
        self.held = {}
        await super().swap_back(previous)

    async def add_adapter(self, folder: Path, *, name: str, digest: str | None = None) -> Engine:
        if name in self.held or len(self.held) >= self.num_places:
            raise ConflictError(f"no place for {name} beside {list(self.held)}")
        self.log.append(f"add {name}")
        self.held[name] = folder
        return self

    async def drop_adapter(self, name: str) -> None:
        self.log.append(f"drop {name}")
        self.held.pop(name, None)

    async def sleep(self) -> None:
        self.log.append("sleep")

    async def wake(self) -> None:
        self.log.append("wake")


class Place:
    """A home, its registry, and what answers."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "policies"
        self.folder.mkdir(parents=True)
        self.engine = Engine(make_folder(self.folder, "base", sealed=False))
        self.stores = Stores(Settings(home=home))
        self.admission = Admission(max_running=4, max_queue=4)
        self.live = LivePolicies(self.stores, self.admission, drain_s=5)
        change = Changeover(self.engine, self.admission, drain_s=5, base_probes=(PROBE,))
        self.live.take(self.engine)
        self.live._change = change

    @property
    def registry(self) -> PolicyRegistry:
        return self.stores.policies

    def full(self, name: str) -> PolicyRecord:
        return self.registry.add(make_folder(self.folder, name), actor="t")

    def lora(self, name: str, base_digest: str = "sha256:base") -> PolicyRecord:
        folder = self.folder / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"made_by": name}))
        write(folder / "adapter_model.safetensors", {"a": entry()})
        given = {"kind": "lora", "method": "dpo", "base": "b", "base_digest": base_digest}
        seal(folder, name=name, probes=(PROBE,), **given)
        return self.registry.add(folder, actor="t")

    def reseal(self, name: str) -> None:
        """Other content under the same name, sealed anew."""
        (self.folder / name / "config.json").write_text('{"other": 1}')
        seal(self.folder / name, name=name, kind="full", method="sft", base="b", probes=(PROBE,))

    async def promote(self, *names: str) -> None:
        for name in names:
            await self.live.promote(name, reason="good", actor="t")

    async def rollback(self) -> PolicyRecord | None:
        return await self.live.rollback(reason="worse", actor="t")

    def states(self, *names: str) -> list[str]:
        return [self.registry.get(name).state for name in names]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(tmp_path)
    yield found
    found.stores.close()


class Held:
    """Keeps a write to the registry in its thread until `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        own = getattr(PolicyRegistry, name)

        def held(registry: PolicyRegistry, *args: Any, **fields: Any) -> Any:
            self.began.set()
            assert self.go.wait(10)
            return own(registry, *args, **fields)

        monkeypatch.setattr(PolicyRegistry, name, held)

    async def cancel_meanwhile(self, task: asyncio.Task[Any]) -> None:
        assert await asyncio.to_thread(self.began.wait, 10)
        task.cancel()
        await asyncio.sleep(0.02)
        self.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancel_while_it_is_written_down_leaves_engine_and_registry_agreed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.full("new")
    held = Held(monkeypatch, "make_live")
    await held.cancel_meanwhile(asyncio.create_task(place.promote("new")))
    assert place.states("new") == ["live"]
    assert (place.engine.identity().model, place.live.name) == ("new", "new")
    await place.rollback()
    assert (place.engine.identity().model, place.states("new")) == ("base", ["retired"])


async def test_so_it_does_for_an_adapter_and_for_the_way_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.lora("small")
    held = Held(monkeypatch, "make_live")
    await held.cancel_meanwhile(asyncio.create_task(place.promote("small")))
    assert (place.states("small"), place.live.name) == (["live"], "small")
    held = Held(monkeypatch, "take_down")
    await held.cancel_meanwhile(asyncio.create_task(place.rollback()))
    assert (place.states("small"), place.live.name) == (["retired"], "base")


async def test_a_write_that_fails_brings_the_policy_from_before_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.full("new")

    def fail(*_args: Any, **_fields: Any) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(PolicyRegistry, "make_live", fail)
    with pytest.raises(DatabaseError):
        await place.promote("new")
    assert (place.engine.identity().model, place.states("new")) == ("base", ["verified"])


@pytest.mark.parametrize("is_tried", [False, True])
async def test_what_was_sealed_anew_is_not_what_was_registered(
    place: Place, is_tried: bool
) -> None:
    place.full("new")
    place.reseal("new")
    with pytest.raises(PolicyError, match="holds another policy now"):
        await (place.live.verify("new", actor="t") if is_tried else place.promote("new"))
    assert (place.states("new"), place.engine.log) == (["rejected"], [])


async def test_one_sealed_anew_while_requests_leave_is_not_loaded(place: Place) -> None:
    place.full("new")
    async with place.admission.slot():
        promoting = asyncio.create_task(place.promote("new"))
        while place.admission._open.is_set():
            await asyncio.sleep(0.005)
        place.reseal("new")
    with pytest.raises(PolicyError, match="holds another policy now"):
        await promoting
    assert (place.states("new"), place.engine.identity().model) == (["rejected"], "base")
    assert "swap new" not in place.engine.log


async def test_a_live_policy_sealed_anew_is_not_loaded_at_a_start_or_on_the_way_back(
    place: Place,
) -> None:
    for name in ("first", "second"):
        place.full(name)
    await place.promote("first", "second")
    place.reseal("first")
    with pytest.raises(PolicyError, match="holds another policy now"):
        await place.rollback()
    assert place.states("first", "second") == ["rejected", "live"]
    place.reseal("second")
    change = Changeover(
        Engine(place.folder / "base"), place.admission, drain_s=5, base_probes=(PROBE,)
    )
    await place.live._restore(change)
    assert (change.is_on_base, place.states("second")) == (True, ["retired"])


async def test_back_from_whole_weights_to_an_adapter_loads_its_base_below(place: Place) -> None:
    place.lora("small")
    place.full("new")
    await place.promote("small", "new")
    assert (place.engine.adapters(), place.states("small", "new")) == ([], ["retired", "live"])
    assert (await place.rollback()).state == "live"
    assert place.engine.identity() is IDENTITY
    assert (place.live.name, place.engine.adapters()) == ("small", ["small"])
    assert place.states("small", "new") == ["live", "retired"]


async def test_so_it_does_where_the_base_is_a_policy_itself(place: Place) -> None:
    below = place.full("below")
    place.lora("small", below.digest)
    (place.folder / "new").mkdir()
    (place.folder / "new" / "config.json").write_text('{"made_by": "new"}')
    write(place.folder / "new" / "model.safetensors", {"a": entry()})
    given = {"kind": "full", "method": "sft", "base": "b", "probes": (PROBE,)}
    seal(place.folder / "new", name="new", **given)
    place.registry.add(place.folder / "new", actor="t")
    await place.promote("below", "small", "new")
    assert (await place.rollback()).id == "small"
    assert (place.engine.identity().model, place.live.name) == ("below", "small")


async def test_an_adapter_whose_base_is_damaged_is_not_rejected_for_it(place: Place) -> None:
    place.lora("small")
    place.full("new")
    await place.promote("small", "new")
    place.engine.logprobs["base"] = -3.0
    with pytest.raises(ConflictError, match="the weights below 'small': 'base' is off by 2"):
        await place.rollback()
    assert place.states("small", "new") == ["retired", "live"]
    assert (place.live.name, place.engine.condemned) == ("new", None)


async def test_the_next_adapter_takes_the_place_of_the_one_that_gives_way(place: Place) -> None:
    for name in ("one", "two", "three"):
        place.lora(name)
    await place.promote("one", "two", "three")
    assert (place.live.name, place.engine.adapters()) == ("three", ["three"])
    assert place.live.adapters() == ["three"]
    assert place.states("one", "two", "three") == ["retired", "retired", "live"]
    assert (await place.rollback()).id == "two"
    assert place.live.servable() == ["live", "base", "two"]


async def test_where_there_is_room_the_one_that_gave_way_answers_until_it_is_needed(
    place: Place,
) -> None:
    place.engine.num_places = 2
    for name in ("one", "two", "three"):
        place.lora(name)
    await place.promote("one", "two")
    assert (place.engine.adapters(), place.live.adapters()) == (["one", "two"], ["two"])
    await place.live.verify("three", actor="t")
    assert (place.engine.adapters(), place.live.adapters()) == (["two", "three"],) * 2


async def test_an_adapter_that_does_not_do_gives_its_place_back(place: Place) -> None:
    place.lora("one")
    place.lora("two")
    await place.promote("one")
    (place.folder / "two" / "adapter_config.json").write_text('{"made_by": "me"}')
    other = PROBE.model_copy(update={"logprobs": (-1.0, -3.0)})
    given = {"kind": "lora", "method": "dpo", "base": "b", "base_digest": "sha256:base"}
    seal(place.folder / "two", name="two", probes=(other,), **given)
    place.registry.add(place.folder / "two", actor="t")
    id = place.registry.list().records[0].id
    with pytest.raises(ReloadError):
        await place.promote(id)
    assert (place.live.name, place.engine.adapters()) == ("one", ["one"])
    assert (place.live.adapters(), place.states(id)) == (["one"], ["rejected"])


async def test_an_adapter_rejected_elsewhere_gives_its_place_up(place: Place) -> None:
    place.lora("one")
    place.lora("two")
    await place.live.verify("one", actor="t")
    place.registry.reject("one", "harmful", {}, "cli")
    await place.live.verify("two", actor="t")
    assert (place.live.adapters(), place.engine.adapters()) == (["two"], ["two"])


async def test_verified_adapters_of_other_weights_are_retired_loaded_or_not(place: Place) -> None:
    place.lora("loaded")
    place.lora("not-loaded")
    place.full("new")
    await place.live.verify("loaded", actor="t")
    place.registry.verified("not-loaded", {}, "t")
    await place.promote("new")
    assert place.states("loaded", "not-loaded") == ["retired", "retired"]
    event = place.registry.events("not-loaded")[-1]
    assert event.reason == "its base gave way to new"
    assert event.figures["probe_max_abs_diff"] == 0.0


async def test_a_rejection_has_the_figures_of_the_probes(place: Place) -> None:
    place.full("new")
    place.engine.logprobs["new"] = -1.25
    with pytest.raises(ReloadError):
        await place.promote("new")
    figures = place.registry.events("new")[-1].figures
    assert (figures["probe_max_abs_diff"], figures["tolerance"]) == (0.25, 0.001)
    assert figures["probe_tokens"] == 2


async def test_why_it_failed_is_told_though_the_rejection_cannot_be_written(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.full("new")
    place.engine.logprobs["new"] = -1.25

    def fail(*_args: Any) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(PolicyRegistry, "reject", fail)
    with pytest.raises(ReloadError, match=r"off by up to 0\.25"):
        await place.promote("new")
    assert "new stays candidate: the disk is full" in caplog.text


@pytest.mark.parametrize("is_adapter", [False, True])
async def test_nothing_is_loaded_into_an_engine_that_sleeps(
    place: Place, monkeypatch: pytest.MonkeyPatch, is_adapter: bool
) -> None:
    """A job asks for the device while a policy's files are read, before anybody has to wait."""
    place.lora("new") if is_adapter else place.full("new")
    sleeper = Sleeper(place.live, place.admission, drain_s=5)
    began, go, own = asyncio.Event(), asyncio.Event(), asyncio.to_thread

    async def held(work: Any, *args: Any, **fields: Any) -> Any:
        if args and isinstance(args[0], tuple | Path):  # a policy's folder
            began.set()
            await go.wait()
        return await own(work, *args, **fields)

    monkeypatch.setattr(asyncio, "to_thread", held)
    promoting = asyncio.create_task(place.promote("new"))
    await began.wait()
    sleeping = asyncio.create_task(sleeper.sleep("j1", 60))
    await asyncio.sleep(0.02)
    go.set()
    await promoting
    await sleeping
    assert place.engine.log[-1] == "sleep"
    with pytest.raises(EngineDeadError, match="sleeps while"):
        await place.live.verify("new", actor="t")
    await sleeper.wake("j1")
    assert place.live.name == "new"


async def test_a_load_that_broke_off_has_the_old_weights_tried_again(place: Place) -> None:
    place.full("new")

    async def torn(*_args: Any, **_fields: Any) -> None:
        place.engine.log.append("torn")
        raise ReloadError("the weights could not be loaded; 'base' answers again")

    place.engine.swap = torn  # type: ignore[method-assign]
    with pytest.raises(ReloadError):
        await place.promote("new")
    assert place.engine.log[0] == "torn"
    assert "probe base" in place.engine.log[1:]
    assert place.engine.condemned is None
    place.engine.logprobs["base"] = -3.0
    place.full("newer")
    with pytest.raises(ReloadError):
        await place.promote("newer")
    assert "off by up to 2" in (place.engine.condemned or "")


async def test_a_policy_that_the_engine_dies_of_twice_is_rejected(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once may be chance; a worker that tries again and again would take the service down."""
    place.full("new")

    async def die(*_args: object, **_fields: object) -> None:
        raise EngineDeadError("the engine died while its weights were replaced")

    monkeypatch.setattr(Engine, "swap", die)
    for state in ("candidate", "rejected"):
        with pytest.raises(EngineDeadError):
            await place.promote("new")
        assert place.states("new") == [state]
    with pytest.raises(ConflictError):
        await place.promote("new")
