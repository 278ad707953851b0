"""A start of vLLM that is cancelled or fails leaves nothing behind; without vLLM itself."""

import asyncio
import multiprocessing
import threading

import pytest

from cai.engine import embedded, vllm_start
from cai.engine.embedded import EmbeddedEngine
from cai.engine.worker import NAME, WorkerExtension
from cai.errors import ConfigError, EngineError


class Llm:
    """What a start gives, as far as it is looked at here."""

    def __init__(self) -> None:
        self.is_shut_down = False

    def shutdown(self) -> None:
        self.is_shut_down = True


async def test_a_cancelled_start_shuts_down_what_comes_of_it(monkeypatch):
    """A thread cannot be stopped: the engine that it still starts would belong to nobody."""
    llm, began, go_on = Llm(), threading.Event(), threading.Event()

    def slow(arguments):
        began.set()
        go_on.wait(10)
        return llm

    monkeypatch.setattr(vllm_start, "_launch", slow)
    starting = asyncio.create_task(vllm_start.launch("arguments"))
    await asyncio.to_thread(began.wait, 10)
    starting.cancel()
    await asyncio.sleep(0.05)
    assert not starting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert llm.is_shut_down


async def test_a_cancelled_start_that_fails_is_cancelled(monkeypatch):
    began, go_on = threading.Event(), threading.Event()

    def failing(arguments):
        began.set()
        go_on.wait(10)
        raise EngineError("no memory")

    monkeypatch.setattr(vllm_start, "_launch", failing)
    starting = asyncio.create_task(vllm_start.launch("arguments"))
    await asyncio.to_thread(began.wait, 10)
    starting.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_an_engine_that_cannot_be_used_after_its_start_is_shut_down(monkeypatch):
    llm, guardians = Llm(), []

    class Guardian:
        def __init__(self):
            self.is_closed = False
            guardians.append(self)

        def close(self):
            self.is_closed = True

    async def launch(arguments):
        return llm

    def refuse(llm):
        raise ConfigError("the chat template takes too much time")

    monkeypatch.setattr(embedded, "Guardian", Guardian)
    monkeypatch.setattr(embedded, "engine_arguments", lambda model, options: "arguments")
    monkeypatch.setattr(embedded, "launch", launch)
    monkeypatch.setattr(embedded, "renderer_for", refuse)
    with pytest.raises(ConfigError, match="too much time"):
        await EmbeddedEngine.start("org/model")
    assert llm.is_shut_down
    assert [guardian.is_closed for guardian in guardians] == [True]


def test_a_start_in_a_child_that_imports_the_main_script_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match='if __name__ == "__main__"'):
        vllm_start.engine_arguments("org/model", {})


def test_the_model_is_no_engine_argument_and_close_names_are_offered():
    with pytest.raises(ConfigError, match="part of the engine's address"):
        vllm_start._check_names({"model": "x"}, {"model"})
    with pytest.raises(ConfigError, match="no engine argument 'max_num_seq'; did you mean"):
        vllm_start._check_names({"max_num_seq": 1}, {"max_num_seqs"})
    with pytest.raises(ConfigError, match=r"no engine argument 'zzz'$"):
        vllm_start._check_names({"zzz": 1}, {"max_num_seqs"})


class Derived(WorkerExtension):
    """What an operator may add to the workers."""


def test_a_worker_extension_may_be_ours_or_derived_from_it():
    for name in (NAME, f"{__name__}.Derived"):
        vllm_start._check_extension(name)


@pytest.mark.parametrize("name", ["pathlib.Path", f"{__name__}.pytest", "no.such.Thing", "x", 5])
def test_another_worker_extension_is_refused_with_the_way_out(name):
    """Workers take one only: with another in its place no weights could be swapped."""
    with pytest.raises(ConfigError, match=r"derive it from cai\.engine\.worker|cannot be imported"):
        vllm_start._check_extension(name)


def test_every_engine_has_our_extension_whatever_the_options(monkeypatch, model_folder):
    pytest.importorskip("vllm")
    monkeypatch.setattr(vllm_start, "check_template", lambda folder: None)
    for options in ({}, {"max_num_seqs": 4}, {"worker_extension_cls": ""}):
        arguments = vllm_start.engine_arguments(str(model_folder), dict(options))
        assert arguments.worker_extension_cls == NAME


def test_an_engine_on_a_gpu_frees_its_memory_when_it_sleeps(monkeypatch, model_folder):
    """VLLM's own default frees nothing, and on CPU it refuses the mode."""
    platforms = pytest.importorskip("vllm.platforms")
    monkeypatch.setattr(vllm_start, "check_template", lambda folder: None)
    assert not vllm_start.engine_arguments(str(model_folder), {}).enable_sleep_mode

    class Cuda(type(platforms.current_platform)):
        def is_cuda(self):
            return True

        def is_cumem_allocator_available(self):
            return True

    monkeypatch.setattr(platforms, "current_platform", Cuda())
    assert vllm_start.engine_arguments(str(model_folder), {}).enable_sleep_mode
    given = {"enable_sleep_mode": False}
    assert not vllm_start.engine_arguments(str(model_folder), given).enable_sleep_mode


def test_the_workers_class_has_none_of_the_extensions_names():
    """VLLM asserts this when a worker starts; here it is known before."""
    worker = pytest.importorskip("vllm.v1.worker.cpu_worker").CPUWorker
    ours = {name for name in dir(WorkerExtension) if not name.startswith("__")}
    assert ours == {"cai_swap_weights"}
    assert not any(hasattr(worker, name) for name in ours)
