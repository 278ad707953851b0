"""LoRA adapters beside the sandbox's weights under real vLLM: tried, served by name, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from cai.constitution.store import ConstitutionStore
from cai.engine.embedded import EmbeddedEngine
from cai.engine.model_folder import digest_model_folder
from cai.engine.open import SANDBOX_MODEL
from cai.errors import ConflictError, EngineDeadError, ReloadError
from cai.policy.manifest import Probe, seal
from cai.policy.reload import load_adapter
from cai.settings import Settings
from cai.types import ChatPrompt, Message, Sampling
from server.app import create_app
from tests.checkpoints import derive, shuffled
from tests.integration.test_live import CONSTITUTIONS, Place, question, register
from tests.integration.test_swap import engine_of_its_own, probes_of
from tests.server.helpers import BASE_URL

pytestmark = pytest.mark.vllm

GREEDY = Sampling(temperature=0.0, max_tokens=12)
ASKED = ChatPrompt((Message("user", "How do I open a jar?"),))
IDS = tuple(range(20, 40))


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[EmbeddedEngine]:
    options: dict[str, Any] = {"enable_lora": True, "max_loras": 2, "max_lora_rank": 8}
    async with engine_of_its_own(SANDBOX_MODEL, **options) as engine:
        yield engine


@pytest.fixture
async def place(engine: EmbeddedEngine, tmp_path: Path) -> AsyncIterator[Place]:
    before = engine.loaded
    app = create_app(engine, ConstitutionStore(CONSTITUTIONS), Settings(home=tmp_path))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE_URL, timeout=120) as client:
        yield Place(tmp_path, app, client)
    app.state.services.stores.close()
    for name in engine.adapters():
        await engine.drop_adapter(name)
    if engine.loaded is not before:
        await engine.swap_back(before)


def make_adapter(home: Path, name: str, seed: int, **fields: Any) -> Path:
    """An adapter of random weights, with a probe by transformers and peft."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(SANDBOX_MODEL, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config).eval()
    with torch.no_grad():
        for tensor_name, tensor in model.named_parameters():
            if "lora_" in tensor_name:
                tensor.normal_(0.0, 0.2)
        logprobs = model(torch.tensor([IDS])).logits[0, :-1].log_softmax(-1)
    own = logprobs[torch.arange(len(IDS) - 1), torch.tensor(IDS[1:])]
    folder = home / "policies" / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    probe = Probe(
        prompt_ids=IDS[:1],
        continuation_ids=IDS[1:],
        logprobs=tuple(min(0.0, value) for value in own.tolist()),
    )
    given = {
        **{"name": name, "kind": "lora", "method": "dpo", "base": "sandbox", "probes": (probe,)},
        "base_digest": digest_model_folder(SANDBOX_MODEL),
    }
    seal(folder, **{**given, **fields})
    return folder


async def test_two_adapters_and_their_base_answer_from_one_engine(
    place: Place, engine: EmbeddedEngine
) -> None:
    base = await place.answer()
    for number, name in enumerate(("one", "two"), start=1):
        register(place.app, make_adapter(place.home, name, number))
        verified = await place.client.post(f"/v1/policies/{name}/verify")
        assert (verified.status_code, verified.json()["state"]) == (200, "verified"), verified.text
    models = [model["id"] for model in (await place.client.get("/v1/models")).json()["data"]]
    assert models == ["live", "model", "one", "two"]
    said = {}
    for name in ("live", "model", "one", "two"):
        response = await place.client.post("/v1/chat/completions", json=question(model=name))
        said[name] = response.json()["choices"][0]["message"]["content"]
        assert response.headers["x-cai-policy"] == ("model" if name == "live" else name)
    assert (said["live"], said["model"]) == (base[0], base[0])
    assert len(set(said.values())) == 3

    split = {"split": {"one": 100.0}}
    assert (await place.client.put("/v1/traffic", json=split)).status_code == 200
    assert await place.answer() == (said["one"], "one")
    assert (await place.client.put("/v1/traffic", json={"split": {}})).status_code == 200

    promoted = await place.promote("two")
    assert (promoted.status_code, await place.answer()) == (200, (said["two"], "two"))
    back = await place.client.post("/v1/policies/rollback")
    assert (back.status_code, await place.answer()) == (200, base), back.text

    whole = derive(SANDBOX_MODEL, place.home / "policies" / "whole", shuffled(1))
    given = {"name": "whole", "kind": "full", "method": "sft", "base": "sandbox"}
    seal(whole, probes=probes_of(whole, engine), **given)
    register(place.app, whole)
    assert (await place.promote("whole")).status_code == 200
    assert engine.adapters() == []
    assert await place.state("one") == "retired"
    gone = await place.client.post("/v1/chat/completions", json=question(model="one"))
    assert gone.status_code == 404


async def test_an_adapter_for_another_base_is_refused_before_it_is_loaded(
    place: Place, engine: EmbeddedEngine
) -> None:
    register(place.app, make_adapter(place.home, "alien", 1, base_digest="sha256:" + "0" * 64))
    refused = await place.promote("alien")
    assert (refused.status_code, "load its base first" in refused.text) == (400, True)
    assert await place.state("alien") == "rejected"
    assert engine.adapters() == []


async def test_an_adapter_whose_probes_are_off_is_unloaded(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    probe = Probe(prompt_ids=IDS[:1], continuation_ids=IDS[1:3], logprobs=(-0.5, -0.5))
    folder = make_adapter(tmp_path, "off", 1, probes=(probe,))
    with pytest.raises(ReloadError, match="does not answer as the trainer did"):
        await load_adapter(engine, folder)
    assert engine.adapters() == []


async def test_one_too_many_says_so_and_a_dropped_view_answers_nobody(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    views = []
    for number in (1, 2):
        folder = make_adapter(tmp_path, f"no-{number}", number)
        views.append(await engine.add_adapter(folder, name=f"no-{number}"))
    with pytest.raises(ConflictError, match="holds max_loras 2 adapters already"):
        await engine.add_adapter(make_adapter(tmp_path, "no-3", 3), name="no-3")
    assert (await views[0].generate(ASKED, GREEDY)).policy == "no-1"
    await engine.drop_adapter("no-1")
    with pytest.raises(EngineDeadError, match="'no-1' is not loaded any more"):
        await views[0].generate(ASKED, GREEDY)
    await engine.drop_adapter("no-2")
