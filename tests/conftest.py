"""What every test shares: an environment of its own, one real engine, a tiny model, real data.

The engine takes most of a minute to start, so there is one for the whole session: leave it as it
was found, and never close it.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cai.engine.embedded import EmbeddedEngine

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "REWARD_API_KEY", "HF_TOKEN")


def pytest_configure() -> None:
    """Before anything reads it: no settings, keys or network of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith("CAI_") or name in KEYS:
            del os.environ[name]
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    settings.register_profile("untimed", deadline=None)  # the machine may be busy
    settings.load_profile("untimed")


@pytest.fixture(scope="session")
async def sandbox_engine() -> AsyncIterator[EmbeddedEngine]:
    """The bundled model under real vLLM. Tests that use it carry the marker `vllm`."""
    from cai.engine import open as opening

    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    if not (opening.SANDBOX_MODEL / "config.json").is_file():
        pytest.skip(f"{opening.SANDBOX_MODEL} has no model; run: python -m cai.sandbox.build")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM's and torch's own, at import
        engine = await opening.open_engine("sandbox")
    yield engine  # type: ignore[misc]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM leaves its message context to the collector
        await engine.aclose()
        gc.collect()
    assert engine.pids() == []  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of a few hundred thousand parameters, with tokenizer and chat template."""
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests.tiny_model import write_model

        return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not here")
    return SHARED_DATA
