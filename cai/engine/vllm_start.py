"""Starts vLLM: engine arguments checked by name, the model folder checked, our defaults.

Beside `embedded.py` and `worker.py` the only place that imports vLLM.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from cai.engine.model_folder import check_model_folder, digest_model_folder
from cai.engine.template import ChatRenderer
from cai.engine.template_check import check_template
from cai.errors import ConfigError, EngineError, MissingDependencyError
from cai.types import EngineIdentity

_CPU_KV_CACHE_GIB = "1"  # unset, vLLM takes a large share of the machine's memory


def engine_arguments(model: str, options: dict[str, Any]) -> Any:
    """VLLM's AsyncEngineArgs from options by name, with our defaults where none is given."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_KV_CACHE_GIB)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
    except ImportError as exc:
        raise MissingDependencyError("an embedded engine", "vllm", "vllm") from exc
    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise ConfigError(f"vLLM has no engine argument '{name}'{hint}", param=name)
    trust = bool(options.get("trust_remote_code", False))
    if Path(model).exists() or model.startswith((".", "/")):
        check_model_folder(Path(model), trust_remote_code=trust)
        check_template(Path(model))
    is_cpu = bool(current_platform.is_cpu())
    defaults: dict[str, Any] = {
        "load_format": "auto" if trust else "safetensors",
        "enable_prefix_caching": True,
        "enforce_eager": is_cpu,  # compiling costs minutes on CPU and gains little
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "generation_config": "vllm",  # what a request does not say is our default, not the model's
    }
    try:
        return AsyncEngineArgs(model=model, **{**defaults, **options})
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"vLLM refuses the engine arguments: {exc}") from exc


def launch(arguments: Any) -> Any:
    """Start the engine's processes and wait until the model is loaded. Blocks."""
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        return AsyncLLM.from_engine_args(arguments)
    except (ValueError, OSError, TypeError) as exc:
        raise ConfigError(f"vLLM cannot load '{arguments.model}': {exc}") from exc
    except RuntimeError as exc:
        raise EngineError(f"vLLM failed to start on '{arguments.model}': {exc}") from exc


def identify(llm: Any, renderer: ChatRenderer, name: str) -> EngineIdentity:
    """Who a started engine is, with the digest of what it loaded."""
    import vllm
    from vllm.platforms import current_platform

    folder = _model_folder(str(llm.model_config.model))
    return EngineIdentity(
        engine="vllm",
        version=str(vllm.__version__),
        device=str(current_platform.device_type),
        model=name,
        digest=digest_model_folder(folder) if folder else None,
        template_digest=renderer.template_digest,
        max_context=int(llm.model_config.max_model_len),
        keeps_prefix=renderer.keeps_prefix(),
    )


def _model_folder(model: str) -> Path | None:
    """The local folder of a model, or of its downloaded snapshot."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json")
    return Path(config).parent if isinstance(config, str) else None
