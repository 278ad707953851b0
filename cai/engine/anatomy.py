"""What a checkpoint must share with the one that it replaces in a running engine.

An engine keeps its graph, tokenizer and chat template for life; only values may change. Spelling
does not count: configs and tokenizers are compared as the libraries read them, so that a folder
written by another version of them still fits. Start from `read_anatomy`, then `check_fits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.engine.model_folder import read_config
from cai.engine.template_check import read_template
from cai.engine.weights import TensorInfo, tensors_of
from cai.errors import PolicyError
from cai.files import digest_bytes, digest_file, digest_json

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt", "tekken.json"),
)
# Keys of config.json that change nothing of what an engine computes from the same tokens.
_IGNORED = {
    *("transformers_version", "dtype", "torch_dtype", "use_cache", "initializer_range"),
    *("pad_token_id", "bos_token_id", "auto_map"),
}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What must stay; `config_digest` and `tokenizer_files` only save reading the same again."""

    config: dict[str, Any]
    config_digest: str
    tensors: dict[str, TensorInfo]
    tokenizer: str
    tokenizer_files: dict[str, str]
    template_digest: str | None


def read_anatomy(folder: Path, *, like: Anatomy | None = None) -> Anatomy:
    """Read a model folder. What is byte for byte as in `like` is taken from there.

    Raises PolicyError or ConfigError naming the file that cannot be read.
    """
    config_digest = digest_file(folder / "config.json")
    files = {
        name: digest_file(folder / name) for name in _TOKENIZER_FILES if (folder / name).is_file()
    }
    is_config_known = like is not None and like.config_digest == config_digest
    is_tokenizer_known = like is not None and like.tokenizer_files == files
    template = read_template(folder)
    return Anatomy(
        config=like.config if like and is_config_known else _config(folder),
        config_digest=config_digest,
        tensors=tensors_of(folder),
        tokenizer=like.tokenizer if like and is_tokenizer_known else _tokenizer(folder, files),
        tokenizer_files=files,
        template_digest=None if template is None else digest_bytes(template[0].encode()),
    )


def check_fits(new: Anatomy, now: Anatomy, *, folder: Path) -> None:
    """Raise PolicyError with every reason why `new`, read from `folder`, cannot replace `now`."""
    problems = []
    if new.tokenizer != now.tokenizer:
        problems.append("its tokenizer is another")
    if new.template_digest != now.template_digest:
        problems.append("its chat template is another")
    problems += _config_problems(new.config, now.config)
    problems += _tensor_problems(new.tensors, now.tensors)
    if problems:
        more = len(problems) - _MAX_NAMED
        raise PolicyError(
            f"{folder}: cannot replace the engine's weights in place: "
            f"{'; '.join(problems[:_MAX_NAMED])}{f'; and {more} more' if more > 0 else ''}; "
            "start an engine on it instead"
        )


def _config(folder: Path) -> dict[str, Any]:
    """The config as transformers reads it, defaults included; as it stands where it cannot."""
    raw = read_config(folder / "config.json")
    try:
        from transformers import AutoConfig

        read = AutoConfig.from_pretrained(str(folder), trust_remote_code=False).to_dict()
    except Exception:  # an architecture that only vLLM knows
        read = raw
    return {
        key: value
        for key, value in read.items()
        if key not in _IGNORED and not key.startswith("_") and "drop" not in key
    }


def _tokenizer(folder: Path, files: dict[str, str]) -> str:
    """Digest of what the tokenizer does, without how a trainer left its padding."""
    if "tokenizer.json" not in files:
        return digest_json(files)
    path = folder / "tokenizer.json"
    try:
        from tokenizers import Tokenizer

        does = json.loads(Tokenizer.from_file(str(path)).to_str())
    except Exception as exc:  # the library raises bare ones
        raise PolicyError(f"{path}: no tokenizer: {exc}") from exc
    for key in ("padding", "truncation"):
        does.pop(key, None)
    return digest_json([does, _marks(folder)])


def _marks(folder: Path) -> list[str | None]:
    """The tokens that open a text and end an answer."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= read_config(folder / name)
    marks = (found.get(key) for key in ("bos_token", "eos_token"))
    return [mark.get("content") if isinstance(mark, dict) else mark for mark in marks]


def _config_problems(new: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for key in ("quantization_config", "compression_config"):
        if key in new or key in now:
            yield f"it or the engine's model is quantized ({key})"
    for key in sorted(new.keys() | now.keys()):
        if new.get(key) != now.get(key):
            yield f"{key} is {_short(new.get(key))}, not {_short(now.get(key))}"


def _tensor_problems(new: dict[str, TensorInfo], now: dict[str, TensorInfo]) -> Iterator[str]:
    if missing := sorted(now.keys() - new.keys()):
        yield f"{len(missing)} tensors are missing ({_some(missing)})"
    if extra := sorted(new.keys() - now.keys()):
        yield f"{len(extra)} tensors have no place ({_some(extra)})"
    for name in sorted(new.keys() & now.keys()):
        one, other = new[name], now[name]
        both = {one.dtype, other.dtype}
        if one.shape != other.shape or not (len(both) == 1 or both <= _FLOATS):
            yield f"{name} is {one}, not {other}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _short(value: Any) -> str:
    return repr(value)[:60]
