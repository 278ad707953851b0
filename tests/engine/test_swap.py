"""The swap's ritual on a stand-in for vLLM: order, failures, cancels; the weights are a name."""

import asyncio
import shutil

import pytest

from cai.engine import swap as swapping_module
from cai.engine.anatomy import read_anatomy
from cai.engine.gate import Gate
from cai.engine.swap import Loaded, Weights
from cai.errors import EngineDeadError, PolicyError, ReloadError, UnsupportedError
from cai.types import EngineIdentity

RITUAL = ["pause wait", "load", "reset", "resume"]


class Llm:
    """As much of AsyncLLM as a swap calls. `failing` steps raise; `slow` is awaited in the load."""

    def __init__(self):
        self.calls, self.errored, self.num_unfinished = [], False, 0
        self.weights, self.failing, self.slow = "base", set(), None
        self.is_reset = True
        self.output_processor = self

    def get_num_unfinished_requests(self):
        return self.num_unfinished

    async def pause_generation(self, *, mode, clear_cache):
        self.call(f"pause {mode}")

    async def collective_rpc(self, method, kwargs):
        assert method == "cai_swap_weights"
        self.weights = "torn"
        if self.slow is not None:
            await self.slow.wait()
        self.call("load", kwargs["folder"])
        self.weights = kwargs["folder"]

    async def reset_prefix_cache(self):
        self.call("reset")
        return self.is_reset

    async def resume_generation(self):
        self.call("resume")

    def call(self, step, folder=""):
        self.calls.append(step)
        if step in self.failing or folder in self.failing:
            raise RuntimeError(f"{step} failed")


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "new")


@pytest.fixture
def llm():
    return Llm()


@pytest.fixture
def weights(llm, model_folder):
    identity = EngineIdentity("vllm", "0", "cpu", "base", digest=None, template_digest="t")
    return Weights(llm, Gate(), Loaded(model_folder, identity, read_anatomy(model_folder)))


def swap(weights, folder, **options):
    return weights.swap(folder, **{"name": "new", "digest": None, "hash_files": True, **options})


async def test_the_steps_come_in_order_and_the_identity_names_the_new_policy(weights, llm, folder):
    before = await swap(weights, folder)
    assert llm.calls == RITUAL
    assert (before.name, weights.loaded.name, weights.loaded.folder) == ("base", "new", folder)
    assert weights.loaded.identity.digest.startswith("sha256:")
    assert weights.loaded.identity.template_digest == "t"


async def test_the_name_is_the_folder_and_the_digest_unknown_when_nobody_says(weights, folder):
    await swap(weights, folder, name=None, hash_files=False)
    assert (weights.loaded.name, weights.loaded.identity.digest) == (str(folder), None)
    await swap(weights, folder, digest="sha256:known")
    assert weights.loaded.identity.digest == "sha256:known"


async def test_what_does_not_fit_is_refused_before_the_engine_is_touched(weights, llm, folder):
    (folder / "chat_template.jinja").write_text("another")
    with pytest.raises(PolicyError, match="its chat template is another"):
        await swap(weights, folder)
    assert (llm.calls, weights.loaded.name) == ([], "base")


async def test_code_in_the_folder_is_refused(weights, llm, folder):
    from cai.errors import ConfigError

    (folder / "modeling.py").write_text("")
    with pytest.raises(ConfigError, match=r"modeling\.py"):
        await swap(weights, folder)
    assert llm.calls == []


async def test_a_model_whose_files_cannot_be_read_takes_no_swap(weights, llm, folder):
    weights._loaded = Loaded(None, weights.loaded.identity)
    with pytest.raises(UnsupportedError, match="cannot be read"):
        await swap(weights, folder)


async def test_it_waits_for_what_the_engine_was_given(weights, llm, folder):
    llm.num_unfinished = 1
    async with weights._gate.admitted() as entry:
        swapping = asyncio.create_task(swap(weights, folder))
        await asyncio.sleep(0.03)
        llm.num_unfinished = 0
        await asyncio.sleep(0.03)
        assert llm.calls == []
        entry.settle()
        await swapping
    assert llm.calls == RITUAL


async def test_a_cancel_while_it_waits_leaves_all_as_it_was(weights, llm, folder):
    llm.num_unfinished = 1
    swapping = asyncio.create_task(swap(weights, folder))
    await asyncio.sleep(0.2)
    swapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await swapping
    assert (llm.calls, weights.loaded.name) == ([], "base")
    async with asyncio.timeout(1), weights._gate.admitted():
        pass


async def test_a_cancel_while_it_loads_is_raised_when_the_swap_has_ended(weights, llm, folder):
    """Weights half replaced would be nobody's: the engine is left whole, resumed and named."""
    llm.slow = asyncio.Event()
    swapping = asyncio.create_task(swap(weights, folder))
    while llm.weights != "torn":
        await asyncio.sleep(0.01)
    for _ in range(3):
        swapping.cancel()
        await asyncio.sleep(0.01)
    assert not swapping.done()
    llm.slow.set()
    with pytest.raises(asyncio.CancelledError):
        await swapping
    assert (llm.calls, llm.weights, weights.loaded.name) == (RITUAL, str(folder), "new")


@pytest.mark.parametrize("step", ["pause wait", "load", "reset"])
async def test_a_failing_step_brings_the_old_weights_back_and_resumes(weights, llm, folder, step):
    """The step fails once: `failing` is emptied by the resume that follows it."""
    llm.failing = {step}
    resume = llm.resume_generation

    async def resume_and_mend():
        await resume()
        llm.failing = set()

    llm.resume_generation = resume_and_mend
    with pytest.raises(ReloadError, match=rf"{step} failed\); 'base' answers again"):
        await swap(weights, folder)
    assert (llm.weights, weights.loaded.name) == (str(weights.loaded.folder), "base")
    assert llm.calls[-4:] == RITUAL
    weights.check()


async def test_a_cache_that_stays_is_a_failure(weights, llm, folder):
    llm.is_reset = False
    with pytest.raises(ReloadError, match="did not drop its cached prefixes"):
        await swap(weights, folder)


async def test_without_a_way_back_nobody_is_answered_until_a_swap_succeeds(weights, llm, folder):
    llm.failing = {"load"}
    with pytest.raises(ReloadError, match="no way back: load failed; the engine answers no more"):
        await swap(weights, folder)
    assert llm.calls.count("resume") == 2
    with pytest.raises(EngineDeadError, match="could not be loaded"):
        weights.check()
    llm.failing = set()
    await swap(weights, folder)
    weights.check()


async def test_old_weights_that_changed_on_disk_are_no_way_back(weights, llm, folder, tmp_path):
    await swap(weights, folder)
    other = shutil.copytree(folder, tmp_path / "other")
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    llm.failing = {str(other)}
    with pytest.raises(ReloadError, match="changed since it was loaded as 'new'"):
        await swap(weights, other)
    with pytest.raises(EngineDeadError):
        weights.check()


async def test_swapping_back_restores_name_and_digest(weights, llm, folder):
    before = await swap(weights, folder)
    await weights.swap_back(before)
    assert weights.loaded is before
    assert llm.weights == str(before.folder)


async def test_a_folder_that_was_overwritten_is_no_way_back(weights, llm, folder):
    await swap(weights, folder, hash_files=False)
    before = await swap(weights, folder, name="newer", hash_files=False)
    with pytest.raises(ReloadError, match="write each policy to its own folder"):
        await weights.swap_back(before)
    shutil.rmtree(folder)
    with pytest.raises(ReloadError, match="own folder"):
        await weights.swap_back(before)
    assert weights.loaded.name == "newer"


async def test_a_dead_engine_ends_the_wait_and_the_load(weights, llm, folder):
    """A dead core answers none of vLLM's calls: without a look at it they would wait forever."""
    llm.slow = asyncio.Event()
    swapping = asyncio.create_task(swap(weights, folder))
    while llm.weights != "torn":
        await asyncio.sleep(0.01)
    llm.errored = True
    async with asyncio.timeout(5):
        with pytest.raises(EngineDeadError, match="died while its weights were replaced"):
            await swapping
        with pytest.raises(EngineDeadError, match="is dead"):
            await swap(weights, folder)


async def test_a_core_that_hangs_in_the_load_holds_nobody_up_for_ever(
    weights, llm, folder, monkeypatch
):
    """It answers neither the load nor the resume after it; nobody knows what it has loaded."""
    monkeypatch.setattr(swapping_module, "_REPLACE_LIMIT_S", 0.05)
    monkeypatch.setattr(swapping_module, "_ALIVE_EVERY_S", 0.01)
    llm.slow = asyncio.Event()
    llm.resume_generation = asyncio.Event().wait
    async with asyncio.timeout(2):
        with pytest.raises(EngineDeadError, match=r"did not replace its weights within 0\.05 s"):
            await swap(weights, folder)
        async with weights._gate.admitted():
            pass
    assert not weights.is_replacing
    with pytest.raises(EngineDeadError, match="did not replace its weights"):
        weights.check()


async def test_closing_waits_for_a_load_and_refuses_the_next(weights, llm, folder):
    llm.slow = asyncio.Event()
    swapping = asyncio.create_task(swap(weights, folder))
    while llm.weights != "torn":
        await asyncio.sleep(0.01)
    closing = asyncio.create_task(weights.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    llm.slow.set()
    await asyncio.gather(closing, swapping)
    with pytest.raises(EngineDeadError, match="closed"):
        await swap(weights, folder)


async def test_swaps_come_one_after_another(weights, llm, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    first, second = await asyncio.gather(swap(weights, folder), swap(weights, other, name="other"))
    assert llm.calls == RITUAL * 2
    assert {first.name, second.name} < {"base", "new", "other"}
    assert llm.weights == str(weights.loaded.folder)


async def test_two_swaps_of_one_holder_do_not_overlap(weights, llm, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    async with weights._gate.held():
        await asyncio.gather(swap(weights, folder), swap(weights, other))
    assert llm.calls == RITUAL * 2
