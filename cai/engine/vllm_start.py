"""Starts vLLM: engine arguments checked by name, the model folder checked, our defaults.

Beside `embedded.py`, `vllm_requests.py` and `worker.py` the only place that imports vLLM.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import importlib
import logging
import multiprocessing
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from cai.engine import worker
from cai.engine.anatomy import read_anatomy
from cai.engine.model_folder import check_model_folder, digest_model_folder
from cai.engine.ownership import owned_children
from cai.engine.swap import Loaded
from cai.engine.template import ChatRenderer
from cai.engine.template_check import check_template, check_template_text, read_template
from cai.errors import CaiError, ConfigError, EngineError, MissingDependencyError
from cai.types import EngineIdentity

logger = logging.getLogger(__name__)

_CPU_BLOCK_TOKENS = 64  # only whole blocks are shared, and many prompts are under vLLM's 128
_CPU_KV_CACHE_GIB = "1"  # unset, vLLM takes a large share of the machine's memory


def engine_arguments(model: str, options: dict[str, Any]) -> Any:
    """VLLM's AsyncEngineArgs from options by name, with our defaults where none is given."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "an engine is being started while a child process imports the main script; "
            'put the start under `if __name__ == "__main__":`'
        )
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_KV_CACHE_GIB)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
    except ImportError as exc:
        raise MissingDependencyError("an embedded engine", "vllm", "vllm") from exc
    _check_names(options, {field.name for field in fields(AsyncEngineArgs)})
    if not options.get("worker_extension_cls"):
        options["worker_extension_cls"] = worker.NAME
    _check_extension(options["worker_extension_cls"])
    trust = bool(options.get("trust_remote_code", False))
    if _is_local(model):
        check_model_folder(Path(model), trust_remote_code=trust)
        check_template(Path(model))
    defaults: dict[str, Any] = {
        "load_format": "auto" if trust else "safetensors",
        "enable_prefix_caching": True,
        "enforce_eager": bool(current_platform.is_cpu()),  # compiling costs minutes, gains little
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "generation_config": "vllm",  # what a request does not say is our default, not the model's
    }
    if current_platform.is_cuda() and current_platform.is_cumem_allocator_available():
        defaults["enable_sleep_mode"] = True  # without it an engine asleep keeps its memory
    if current_platform.is_cpu():
        defaults["block_size"] = _CPU_BLOCK_TOKENS
    if current_platform.is_cpu() and not _has_bf16_instructions():
        defaults["dtype"] = "float32"  # bf16 in software is three times slower
    try:
        return AsyncEngineArgs(model=model, **{**defaults, **options})
    except Exception as exc:  # pydantic's, vLLM's own, TypeError: each means the arguments
        raise ConfigError(f"vLLM refuses the engine arguments: {_one_line(exc)}") from exc


def _has_bf16_instructions() -> bool:
    """Whether this machine's processor computes in bf16; what cannot be read counts as yes."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return found is None or not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(found[1].split())


async def launch(arguments: Any) -> Any:
    """Start the engine's processes and wait until the model is loaded.

    When cancelled, it still waits for the start to end, to shut down what came of it.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(_launch, arguments))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await asyncio.to_thread((await starting).shutdown)
        raise


def renderer_for(llm: Any) -> ChatRenderer:
    """The renderer of a started engine. Refuses a chat template that was not checked before."""
    renderer = ChatRenderer(llm.get_tokenizer())
    model, template = str(llm.model_config.model), renderer.template
    checked = read_template(Path(model)) if _is_local(model) else None
    if template is not None and (checked is None or checked[0] != template):
        check_template_text(template, origin=str(llm.model_config.tokenizer))
    renderer.warm_up()
    return renderer


def look_at(llm: Any, renderer: ChatRenderer, name: str) -> Loaded:
    """What a started engine loaded: who it is, with the digest, and what a swap must keep."""
    import vllm
    from vllm.platforms import current_platform

    folder = _model_folder(str(llm.model_config.model), llm.model_config.revision)
    identity = EngineIdentity(
        engine="vllm",
        version=str(vllm.__version__),
        device=str(current_platform.device_type),
        model=name,
        digest=digest_model_folder(folder) if folder else None,
        template_digest=renderer.template_digest,
        max_context=int(llm.model_config.max_model_len),
        keeps_prefix=renderer.keeps_prefix(),
    )
    try:
        return Loaded(folder, identity, read_anatomy(folder) if folder else None)
    except (CaiError, OSError) as exc:  # it runs, and that it cannot be swapped is said then
        logger.info("no swap on this model: %s", exc)
        return Loaded(folder, identity)


def _check_names(options: dict[str, Any], known: set[str]) -> None:
    if "model" in options:
        raise ConfigError("the model is part of the engine's address: vllm:<model>", param="model")
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise ConfigError(f"vLLM has no engine argument '{name}'{hint}", param=name)


def _check_extension(name: Any) -> None:
    """Workers can have one extension: ours, or one that an operator derived from it."""
    module, _, attribute = str(name).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(
            f"worker_extension_cls '{name}' cannot be imported: {exc}", param="worker_extension_cls"
        ) from exc
    if not (isinstance(found, type) and issubclass(found, worker.WorkerExtension)):
        raise ConfigError(
            f"worker_extension_cls '{name}' would take the place of the one that swaps weights; "
            f"derive it from {worker.NAME}",
            param="worker_extension_cls",
        )


def _launch(arguments: Any) -> Any:
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        with owned_children():
            return AsyncLLM.from_engine_args(arguments)
    except (ValueError, OSError, TypeError, VLLMClientError) as exc:
        raise ConfigError(f"vLLM cannot load '{arguments.model}': {_one_line(exc)}") from exc
    except Exception as exc:
        raise EngineError(f"vLLM failed to start on '{arguments.model}': {_one_line(exc)}") from exc


def _is_local(model: str) -> bool:
    return model.startswith((".", "/")) or Path(model).exists()


def _model_folder(model: str, revision: str | None) -> Path | None:
    """The local folder of a model, or of its downloaded snapshot."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:500] or type(exc).__name__
