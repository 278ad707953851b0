"""Policies promoted on a running server under real vLLM: nobody fails, and no answer is of two.

The engine is the session's, found and left with the sandbox's weights. The policies are the
sandbox's model with its rows in other orders, so their greedy answers are plainly different.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from cai.constitution.store import ConstitutionStore
from cai.engine.embedded import EmbeddedEngine
from cai.engine.open import SANDBOX_MODEL
from cai.policy.manifest import NAME, seal
from cai.settings import Settings
from server.app import create_app
from tests.checkpoints import derive, shuffled
from tests.integration.test_swap import probes_of
from tests.server.helpers import BASE_URL, chat_body, events, served

pytestmark = pytest.mark.vllm

CONSTITUTIONS = Path(__file__).parent.parent.parent / "constitutions"
CHAT = "/v1/chat/completions"
NUM_CLIENTS, NUM_RELOADS = 64, 20


class Place(NamedTuple):
    """A home with policies, and the app over the session's engine."""

    home: Path
    app: Any
    client: httpx2.AsyncClient

    async def state(self, id: str) -> str:
        return str((await self.client.get(f"/v1/policies/{id}")).json()["state"])

    async def promote(self, id: str) -> httpx2.Response:
        return await self.client.post(f"/v1/policies/{id}/promote")

    async def answer(self) -> tuple[str, str]:
        """The greedy answer to one question, and who gave it."""
        response = await self.client.post(CHAT, json=question())
        assert response.status_code == 200, response.text
        text = response.json()["choices"][0]["message"]["content"]
        return text, response.headers["x-cai-policy"]


def question(**fields: Any) -> dict[str, Any]:
    return chat_body("How do I open a jar?", temperature=0, max_tokens=12, **fields)


def make_policy(home: Path, name: str, engine: EmbeddedEngine, seed: int, **fields: Any) -> Path:
    folder = derive(SANDBOX_MODEL, home / "policies" / name, shuffled(seed))
    given = {"name": name, "kind": "full", "method": "sft", "base": "sandbox"}
    seal(folder, probes=probes_of(folder, engine), **given, **fields)
    return folder


def register(app: Any, folder: Path) -> str:
    return str(app.state.services.stores.policies.add(folder, actor="test").id)


@asynccontextmanager
async def placed(home: Path, engine: EmbeddedEngine) -> AsyncIterator[Place]:
    before = engine.loaded
    app = create_app(engine, ConstitutionStore(CONSTITUTIONS), Settings(home=home))
    transport = httpx2.ASGITransport(app=app)
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url=BASE_URL, timeout=120
        ) as client:
            yield Place(home, app, client)
    finally:
        app.state.services.stores.close()
        if engine.loaded is not before:
            await engine.swap_back(before)


@pytest.fixture
async def place(sandbox_engine: EmbeddedEngine, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path, sandbox_engine) as found:
        yield found


async def test_promote_answer_and_roll_back_to_where_it_began(
    place: Place, sandbox_engine: EmbeddedEngine
) -> None:
    base = await place.answer()
    for number, name in enumerate(("one", "two"), start=1):
        register(place.app, make_policy(place.home, name, sandbox_engine, number))
        promoted = await place.promote(name)
        assert (promoted.status_code, promoted.json()["state"]) == (200, "live"), promoted.text
    two = await place.answer()
    assert two[1] == "two"
    assert two[0] != base[0]
    assert (await place.state("one"), await place.state("two")) == ("retired", "live")
    models = (await place.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["live", "two"]
    back = await place.client.post("/v1/policies/rollback", json={"reason": "worse"})
    assert (back.json()["live"], back.json()["policy"]["state"]) == ("one", "live"), back.text
    assert (await place.answer())[1] == "one"
    again = await place.client.post("/v1/policies/rollback")
    assert (again.json()["live"], again.json()["policy"]) == ("sandbox", None), again.text
    assert await place.answer() == base
    nothing = await place.client.post("/v1/policies/rollback")
    assert nothing.status_code == 409
    events_of_one = (await place.client.get("/v1/policies/one")).json()["events"]
    assert [one["to_state"] for one in events_of_one] == [
        *("candidate", "verified", "live", "retired", "live", "retired"),
    ]
    assert events_of_one[1]["figures"]["probe_max_abs_diff"] < 1e-3


async def test_what_may_not_go_live_is_a_4xx_that_says_so(
    place: Place, sandbox_engine: EmbeddedEngine
) -> None:
    register(place.app, make_policy(place.home, "one", sandbox_engine, 1))
    unknown = await place.promote("on")
    assert (unknown.status_code, "one" in unknown.text) == (404, True)
    assert (await place.promote("one")).status_code == 200
    again = await place.promote("one")
    assert (again.status_code, again.json()["error"]["type"]) == (409, "conflict_error")


async def test_an_adapter_that_finds_no_place_stays_a_candidate(
    place: Place, sandbox_engine: EmbeddedEngine
) -> None:
    """The session's engine takes none: the operator's choice, and no fault of the adapter's."""
    from tests.integration.test_adapters import make_adapter

    register(place.app, make_adapter(place.home, "small", 1))
    refused = await place.promote("small")
    assert (refused.status_code, "enable_lora" in refused.text) == (409, True), refused.text
    assert await place.state("small") == "candidate"


def flip_a_byte(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)


def drop_a_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def probes_of_another(folder: Path) -> None:
    """The manifest vouches for the files that are there, with what another model would say."""
    manifest = json.loads((folder / NAME).read_text())
    for probe in manifest["probes"]:
        probe["logprobs"] = [value - 0.1 for value in probe["logprobs"]]
    (folder / NAME).write_text(json.dumps(manifest))


@pytest.mark.parametrize("spoil", [flip_a_byte, drop_a_file, probes_of_another])
async def test_a_spoilt_candidate_is_rejected_and_the_old_policy_answers_on(
    place: Place, sandbox_engine: EmbeddedEngine, spoil: Callable[[Path], None]
) -> None:
    before = await place.answer()
    folder = make_policy(place.home, "bad", sandbox_engine, 1)
    if spoil is probes_of_another:
        spoil(folder)
    register(place.app, folder)
    if spoil is not probes_of_another:
        spoil(folder)
    refused = await place.promote("bad")
    assert 400 <= refused.status_code <= 500, refused.text
    assert refused.json()["error"]["message"]
    shown = (await place.client.get("/v1/policies/bad")).json()
    assert (shown["state"], shown["events"][-1]["to_state"]) == ("rejected", "rejected")
    assert shown["events"][-1]["reason"]
    assert await place.answer() == before
    assert (await place.promote("bad")).status_code == 409


def without_a_tensor(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in tensors.items() if "layers.1.mlp.up_proj" not in name}


def of_another_shape(tensors: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in tensors if "layers.1.mlp.up_proj" in name)
    return {**tensors, name: tensors[name][:-1].contiguous()}


@pytest.mark.parametrize("change", [without_a_tensor, of_another_shape])
async def test_a_policy_of_other_tensors_is_rejected_before_the_engine_is_touched(
    place: Place,
    sandbox_engine: EmbeddedEngine,
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    right = make_policy(place.home, "right", sandbox_engine, 1)
    wrong = derive(right, place.home / "policies" / "wrong", change)
    given = {"name": "wrong", "kind": "full", "method": "sft", "base": "sandbox"}
    seal(wrong, probes=probes_of(right, sandbox_engine), **given)
    register(place.app, wrong)
    loaded, before = sandbox_engine.loaded, await place.answer()
    refused = await place.promote("wrong")
    assert (refused.status_code, "up_proj" in refused.text) == (400, True), refused.text
    assert await place.state("wrong") == "rejected"
    assert sandbox_engine.loaded is loaded
    assert await place.answer() == before


async def test_layers_that_changed_places_are_found_by_the_probes(
    place: Place, sandbox_engine: EmbeddedEngine
) -> None:
    """Names, shapes and digests are right: only what it computes is not what its trainer had."""

    def swap_layers(tensors: dict[str, Any]) -> dict[str, Any]:
        def renamed(name: str) -> str:
            for one, other in ((".layers.0.", ".layers.1."), (".layers.1.", ".layers.0.")):
                if one in name:
                    return name.replace(one, other)
            return name

        return {renamed(name): tensor for name, tensor in tensors.items()}

    right = make_policy(place.home, "right", sandbox_engine, 1)
    probes = probes_of(right, sandbox_engine)
    wrong = derive(right, place.home / "policies" / "wrong", swap_layers)
    given = {"name": "wrong", "kind": "full", "method": "sft", "base": "sandbox"}
    seal(wrong, probes=probes, **given)
    register(place.app, wrong)
    before = await place.answer()
    refused = await place.promote("wrong")
    assert refused.status_code == 500
    assert "does not answer as the trainer did" in refused.text
    assert await place.state("wrong") == "rejected"
    assert await place.answer() == before


async def test_a_file_that_goes_between_the_check_and_the_swap(
    place: Place, sandbox_engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_policy(place.home, "going", sandbox_engine, 1)
    register(place.app, folder)
    before = await place.answer()
    own = sandbox_engine.swap

    async def swap(*args: Any, **options: Any) -> Any:
        drop_a_file(folder)
        return await own(*args, **options)

    monkeypatch.setattr(sandbox_engine, "swap", swap)
    refused = await place.promote("going")
    assert refused.status_code in (400, 500), refused.text
    assert await place.state("going") == "rejected"
    monkeypatch.undo()
    assert await place.answer() == before


async def test_a_registry_that_cannot_be_written_leaves_the_old_policy(
    place: Place, sandbox_engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights were swapped and verified by then: they are taken back."""
    from cai.errors import DatabaseError
    from cai.policy.registry import PolicyRegistry

    register(place.app, make_policy(place.home, "one", sandbox_engine, 1))
    before = await place.answer()

    def full(*_args: Any, **_options: Any) -> None:
        raise DatabaseError("the database cannot be written: the disk is full; free some space")

    monkeypatch.setattr(PolicyRegistry, "make_live", full)
    failed = await place.promote("one")
    assert failed.status_code == 503, failed.text  # what it is goes to the log
    assert await place.answer() == before
    monkeypatch.undo()
    assert (await place.promote("one")).status_code == 200


async def test_a_stream_that_outlasts_the_bound_goes_on_and_the_reload_is_given_up(
    sandbox_engine: EmbeddedEngine, tmp_path: Path
) -> None:
    async with placed(tmp_path, sandbox_engine) as place:
        service = place.app.state.services
        register(place.app, make_policy(tmp_path, "one", sandbox_engine, 1))
        service.live._drain_s = 0.05
        async with service.admission.slot():
            refused = await place.promote("one")
        assert (refused.status_code, "reload_drain_s" in refused.text) == (409, True)
        assert await place.state("one") == "candidate"
        assert (await place.promote("one")).status_code == 200


async def test_64_streams_and_20_reloads_none_fails_and_none_mixes(
    sandbox_engine: EmbeddedEngine, tmp_path: Path
) -> None:
    """Every stream is, whole, the greedy answer of the policy that it names."""
    async with placed(tmp_path, sandbox_engine) as place:
        for number, name in enumerate(("one", "two"), start=1):
            register(place.app, make_policy(tmp_path, name, sandbox_engine, number))
        async with served(place.app) as (url, _):
            limits = httpx2.Limits(max_connections=NUM_CLIENTS + 4)
            async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
                await reload_under_load(client)


async def reload_under_load(client: httpx2.AsyncClient) -> None:
    expected: dict[str, str] = {}
    for name in ("one", "two"):
        assert (await client.post(f"/v1/policies/{name}/promote")).status_code == 200
        text = (await client.post(CHAT, json=question())).json()
        expected[name] = text["choices"][0]["message"]["content"]
    assert expected["one"] != expected["two"]
    done, heard = asyncio.Event(), dict.fromkeys(expected, 0)

    async def ask() -> None:
        while not done.is_set():
            response = await client.post(CHAT, json=question(stream=True))
            assert response.status_code == 200, response.text
            policy = response.headers["x-cai-policy"]
            chunks = [json.loads(d) for _, d in events(response.text) if d != "[DONE]"]
            assert {chunk["model"] for chunk in chunks} == {policy}
            text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
            assert text == expected[policy]
            heard[policy] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(NUM_CLIENTS):
            group.create_task(ask())
        for number in range(NUM_RELOADS):
            changed = await client.post(f"/v1/policies/{('one', 'two')[number % 2]}/promote")
            assert changed.status_code == 200, changed.text
            await asyncio.sleep(0.05)
        done.set()
    assert min(heard.values()) > NUM_CLIENTS
