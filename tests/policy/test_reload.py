"""Reload on a stand-in engine: a policy whose probes fail answers nobody, and what then answers.

The stand-in's weights are the folder's name; they give every token the log-prob in `logprobs`.
"""

import asyncio
import contextlib
import math
from dataclasses import replace

import pytest

from cai.engine.gate import Gate
from cai.engine.swap import Loaded
from cai.errors import EngineDeadError, PolicyError, ReloadError
from cai.policy.manifest import Probe, seal
from cai.policy.reload import reload, try_weights
from cai.types import EngineIdentity, TokenLogprob
from tests.engine.test_weights import entry, write

IDENTITY = EngineIdentity("vllm", "0", "cpu", "base", digest="sha256:base")


class Engine:
    """Swaps, and answers probes; `log` has what happened in order."""

    dtype = "float32"

    def __init__(self, base):
        self.loaded = Loaded(base, IDENTITY)
        self.log, self.logprobs, self.gate = [], {}, Gate()
        self.is_stuck, self.condemned, self.during_probe = False, None, None
        self.is_deaf = False  # says that it loaded, and did not

    def identity(self):
        return self.loaded.identity

    def paused(self):
        return self.gate.held()

    async def swap(self, folder, *, name=None, digest=None, hash_files=True):
        async with self.gate.held():
            before = self.loaded
            self.loaded = Loaded(folder, replace(IDENTITY, model=name, digest=digest))
            self.log.append(f"swap {folder.name}")
            return before

    async def swap_back(self, previous):
        if self.is_stuck:
            raise ReloadError("its folder is gone")
        self.loaded = previous
        self.log.append(f"back {previous.folder.name}")

    def condemn(self, reason):
        self.condemned = reason

    async def prompt_logprobs(self, prompt, *, top=0):
        async with self.gate.admitted():
            self.log.append(f"probe {self.loaded.folder.name}")
            if self.during_probe is not None:
                await self.during_probe()
            name = "older" if self.is_deaf else self.loaded.folder.name
            value = self.logprobs.get(name, -1.0)
            return tuple(TokenLogprob(i, "", value) for i in prompt.ids[1:])


def make_folder(tmp_path, name, **fields):
    """A sealed policy with one probe of two tokens, each with log-prob -1."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    write(folder / "model.safetensors", {"a": entry()})
    if fields != {"sealed": False}:
        probe = Probe(prompt_ids=(5,), continuation_ids=(6, 7), logprobs=(-1.0, -1.0))
        given = {"name": name, "kind": "full", "method": "sft", "base": "b", "probes": (probe,)}
        seal(folder, **{**given, **fields})
    return folder


@pytest.fixture
def base(tmp_path):
    return make_folder(tmp_path, "base", sealed=False)


@pytest.fixture
def engine(base):
    return Engine(base)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, "new")


async def test_a_policy_that_answers_as_trained_goes_live(engine, folder):
    done = await reload(engine, folder)
    assert engine.log == ["swap new", "probe new"]
    assert engine.identity().model == "new"
    assert done.digest == engine.identity().digest
    assert (done.probes.max_abs_diff, done.probes.num_tokens) == (0.0, 2)
    assert 0 <= done.seconds < 5


async def test_it_may_be_given_another_name(engine, folder):
    await reload(engine, folder, name="live")
    assert engine.identity().model == "live"


async def test_probes_that_are_off_bring_the_old_policy_back_with_figures(engine, folder):
    engine.logprobs["new"] = -1.25
    with pytest.raises(ReloadError) as caught:
        await reload(engine, folder)
    assert caught.value.message == (
        f"{folder}: the engine does not answer as the trainer did: log-probs are off by up to "
        "0.25 (limit 0.001), 0.25 on average over 2 tokens, worst in probe 0; 'base' answers again"
    )
    assert engine.log == ["swap new", "probe new", "back base"]
    assert engine.identity() is IDENTITY
    assert engine.condemned is None


async def test_a_tolerance_decides_and_an_engine_of_low_precision_has_a_wider_one(engine, folder):
    engine.logprobs["new"] = -1.25
    await reload(engine, folder, tolerance=0.3)
    engine.dtype = "bfloat16"
    await reload(engine, folder)


async def test_a_log_prob_that_is_no_number_does_not_pass(engine, folder):
    engine.logprobs["new"] = math.nan
    with pytest.raises(ReloadError, match="off by up to nan"):
        await reload(engine, folder, tolerance=1e9)


async def test_the_old_policy_is_tried_by_its_own_probes(engine, folder, tmp_path):
    older = make_folder(tmp_path, "older")
    await reload(engine, older)
    engine.logprobs = {"new": -9.0, "older": -1.0005}
    with pytest.raises(ReloadError, match=r"'older' answers again, its probes off by 0\.0005$"):
        await reload(engine, folder)
    assert engine.log[-3:] == ["probe new", "back older", "probe older"]


async def test_nobody_is_answered_when_there_is_no_way_back(engine, folder):
    engine.logprobs["new"], engine.is_stuck = -9.0, True
    with pytest.raises(ReloadError, match="no way back to 'base': its folder is gone; the engine"):
        await reload(engine, folder)
    assert f"the policy in {folder} was refused" in engine.condemned


async def test_nobody_is_answered_when_the_old_policy_fails_its_probes_too(
    engine, folder, tmp_path
):
    await reload(engine, make_folder(tmp_path, "older"))
    engine.logprobs = {"new": -9.0, "older": -9.0}
    with pytest.raises(ReloadError, match=r"no way back to 'older': .* off by up to 8"):
        await reload(engine, folder)
    assert engine.condemned


async def test_others_are_answered_by_the_new_policy_only_after_its_probes(engine, folder):
    seen, start = [], asyncio.Event()

    async def ask():
        await start.wait()
        async with engine.gate.admitted():
            seen.append(engine.loaded.name)

    asking = asyncio.create_task(ask())

    async def let_others_try():
        start.set()
        await asyncio.sleep(0.01)
        assert seen == []

    engine.during_probe = let_others_try
    engine.logprobs["new"] = -9.0
    with pytest.raises(ReloadError):
        await reload(engine, folder)
    await asking
    assert seen == ["base"]


async def test_a_cancel_during_the_probes_brings_the_old_policy_back(engine, folder):
    began = asyncio.Event()

    async def wait():
        began.set()
        await asyncio.sleep(60)

    engine.during_probe = wait
    reloading = asyncio.create_task(reload(engine, folder))
    await began.wait()
    reloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reloading
    assert engine.log[-1] == "back base"
    async with asyncio.timeout(1), engine.gate.admitted():
        pass


async def test_an_engine_that_fails_in_the_probes_is_told_with_what_answers_now(engine, folder):
    async def die():
        raise EngineDeadError("it is gone")

    engine.during_probe = die
    with pytest.raises(ReloadError, match="it is gone; 'base' answers again"):
        await reload(engine, folder)


async def test_what_was_not_sealed_so_is_refused_before_the_engine_is_touched(engine, folder):
    (folder / "notes.txt").write_text("")
    with pytest.raises(PolicyError, match=r"notes\.txt is not in the manifest"):
        await reload(engine, folder)
    await reload(engine, folder, hash_files=False)
    write(folder / "model.safetensors", {"b": entry()})
    with pytest.raises(PolicyError, match="tensor a is missing"):
        await reload(engine, folder, hash_files=False)
    assert engine.log.count("swap new") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probes": ()}, "no probes"),
        ({"kind": "reward"}, "a reward model gives scores"),
    ],
)
async def test_what_cannot_be_served_says_why(engine, tmp_path, fields, message):
    with pytest.raises(PolicyError, match=message):
        await reload(engine, make_folder(tmp_path, "odd", **fields))
    assert engine.log == []


async def test_fresh_weights_need_no_manifest(engine, tmp_path):
    bare = make_folder(tmp_path, "bare", sealed=False)
    probe = Probe(prompt_ids=(1,), continuation_ids=(2,), logprobs=(-1.0,))
    done = await try_weights(engine, bare, [probe], name="step-3", hash_files=False)
    assert (done.digest, engine.identity().model) == (None, "step-3")
    with contextlib.suppress(ReloadError):
        await try_weights(engine, bare, [probe], tolerance=-1.0)
    assert engine.identity().model == "step-3"


def answering(tmp_path, name, logprob):
    """A policy whose trainer gave every token this log-prob."""
    folder = make_folder(tmp_path, name, sealed=False)
    (folder / "config.json").write_text(f'{{"made_by": "{name}"}}')
    probe = Probe(prompt_ids=(5,), continuation_ids=(6, 7), logprobs=(logprob, logprob))
    seal(folder, name=name, kind="full", method="sft", base="b", probes=(probe,))
    return folder


async def changed(engine, tmp_path, *, off, step):
    """Reload from `older`, off by `off`, to `new`, whose log-probs are `step` below."""
    engine.dtype = "bfloat16"
    engine.logprobs = {"older": -1.0 - off, "new": -1.0 - step - off}
    await reload(engine, answering(tmp_path, "older", -1.0))
    return await reload(engine, answering(tmp_path, "new", -1.0 - step))


async def test_a_load_that_did_nothing_is_found_below_the_tolerance_of_low_precision(
    engine, tmp_path
):
    """A step of 0.3 is inside the tolerance of 0.5; the engine itself is off by 0.02."""
    engine.is_deaf = True
    with pytest.raises(ReloadError, match=r"as it did before: .* by 0 at most, .* 0\.28 away"):
        await changed(engine, tmp_path, off=0.02, step=0.3)
    assert engine.log[-2:] == ["back older", "probe older"]


async def test_one_that_did_something_passes(engine, tmp_path):
    await changed(engine, tmp_path, off=0.02, step=0.3)
    assert engine.identity().model == "new"


@pytest.mark.parametrize(("off", "step"), [(0.02, 0.1), (0.1, 0.3), (0.4, 0.0)])
async def test_where_the_difference_is_within_what_the_engine_is_off_nothing_is_said(
    engine, tmp_path, off, step
):
    """Of 0.125 at least, and of four times what it is off."""
    engine.is_deaf = True
    await changed(engine, tmp_path, off=off, step=step)
    assert engine.identity().model == "new"


async def test_a_condemned_engine_takes_another_policy_all_the_same(engine, folder, tmp_path):
    await reload(engine, make_folder(tmp_path, "older"))

    async def refuse():
        if engine.loaded.folder.name == "older":
            raise EngineDeadError("it answers nobody")

    engine.during_probe = refuse
    await reload(engine, folder)
    assert engine.identity().model == "new"


async def test_a_load_that_broke_off_has_the_old_policy_tried_by_its_probes(
    engine, folder, tmp_path
):
    await reload(engine, make_folder(tmp_path, "older"))

    async def torn(_folder, **_fields):
        raise ReloadError("could not be loaded; 'older' answers again")

    engine.swap, engine.log = torn, []
    with pytest.raises(ReloadError, match=r"answers again; 'older' answers again, its probes off"):
        await reload(engine, folder)
    assert engine.log[-1:] == ["probe older"]
    engine.logprobs["older"] = -9.0
    with pytest.raises(ReloadError, match="no way back to 'older'"):
        await reload(engine, folder)
    assert engine.condemned


async def test_figures_come_with_a_refusal(engine, folder):
    engine.logprobs["new"] = -1.25
    with pytest.raises(ReloadError) as caught:
        await reload(engine, folder)
    assert caught.value.figures == {
        **{"probe_max_abs_diff": 0.25, "probe_mean_abs_diff": 0.25},
        **{"probe_tokens": 2, "tolerance": 0.001},
    }


async def test_a_manifest_other_than_the_one_named_is_refused(engine, folder):
    with pytest.raises(PolicyError, match="holds another policy now"):
        await reload(engine, folder, seal="sha256:other")
    assert engine.log == []
