"""Engine addresses: what each opens, and what is refused before anything is loaded."""

import pytest

from cai.engine import open as opening
from cai.engine.open import open_engine, parse_engine_argument
from cai.engine.scripted import ScriptedEngine
from cai.errors import CaiError, ConfigError, EngineDeadError


@pytest.fixture
def started(monkeypatch):
    """What an embedded engine would have been started with."""
    from cai.engine.embedded import EmbeddedEngine

    calls = []

    async def start(model, options=None, *, served_name=None):
        calls.append((model, options, served_name))
        return ScriptedEngine.answering("x")

    monkeypatch.setattr(EmbeddedEngine, "start", start)
    return calls


async def test_a_script_is_opened_by_its_path(tmp_path, monkeypatch):
    path = tmp_path / "s.yaml"
    path.write_text("rules: [{answer: x}]")
    assert isinstance(await open_engine(f"scripted:{path}"), ScriptedEngine)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(await open_engine("scripted:~/s.yaml"), ScriptedEngine)


async def test_the_sandbox_and_local_models_are_embedded(started, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    await open_engine("sandbox", options={"max_num_seqs": 8})
    await open_engine("vllm:org/model:tag")
    await open_engine("vllm:~/model")
    assert started == [
        (str(opening.SANDBOX_MODEL), {"dtype": "float32", "max_num_seqs": 8}, "sandbox"),
        ("org/model:tag", None, None),
        ("/home/me/model", None, None),
    ]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "vllm",
        "vllm:",
        "scripted:",
        "sandbox:",
        "sandboxes",
        "openai",
        "ftp://x/v1#m",
        ":",
        "x:y",
    ],
)
async def test_what_is_no_address_is_answered_with_the_forms(address):
    with pytest.raises(ConfigError, match="is no engine address; use one of: sandbox, vllm:"):
        await open_engine(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1#m", "scripted:x.yaml"])
async def test_engine_arguments_need_an_embedded_engine(address):
    with pytest.raises(ConfigError, match=r"\['max_num_seqs'\] need an embedded engine"):
        await open_engine(address, options={"max_num_seqs": 8})


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/v1#m", "HTTP://127.0.0.1:1/v1", "https://127.0.0.1:1/v1"]
)
async def test_a_server_that_is_not_there_is_named(address):
    with pytest.raises(EngineDeadError, match=r"127\.0\.0\.1:1/v1 cannot be reached"):
        await open_engine(address)


@pytest.mark.parametrize("address", ["http://host:port/v1", "http://[::1/v1", "http://h:999999/v1"])
async def test_an_address_that_is_no_url_is_refused(address):
    with pytest.raises(CaiError):
        await open_engine(address)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_num_seqs=8", ("max_num_seqs", 8)),
        ("max-model-len=4096", ("max_model_len", 4096)),
        ("gpu_memory_utilization=0.5", ("gpu_memory_utilization", 0.5)),
        ("enforce_eager=true", ("enforce_eager", True)),
        ("enforce_eager=False", ("enforce_eager", False)),
        ("quantization=fp8", ("quantization", "fp8")),
        ("quantization=null", ("quantization", None)),
        ('hf_overrides={"rope_theta": 1e6}', ("hf_overrides", {"rope_theta": 1e6})),
        ("download_dir=/a=b", ("download_dir", "/a=b")),
        ("name=", ("name", "")),
    ],
)
def test_an_engine_argument_is_a_name_and_json_or_text(text, expected):
    assert parse_engine_argument(text) == expected


@pytest.mark.parametrize("text", ["", "x", "=1", " =1"])
def test_what_is_no_engine_argument_is_refused(text):
    with pytest.raises(ConfigError, match="write name=value"):
        parse_engine_argument(text)
