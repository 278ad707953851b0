"""What may be loaded from a model folder: safetensors and plain data, never code.

`trust_remote_code=False` was bypassed several times elsewhere, so a local folder that holds code
or pickled weights is refused before any library looks at it.
"""

from __future__ import annotations

import json
from pathlib import Path

from cai.errors import ConfigError
from cai.files import digest_file, digest_json

_CODE_OR_PICKLE = {".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy"}
_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json")
_TRUST = "an operator who trusts its author may pass the engine argument trust_remote_code=true"


def check_model_folder(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Refuse a folder that is no model, or that holds code or pickles."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such model folder")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: not a model folder: it has no config.json")
    if trust_remote_code:
        return
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        if path.suffix.lower() in _CODE_OR_PICKLE:
            raise ConfigError(
                f"{path}: code or pickled data in a model folder; remove it, {_TRUST}"
            )
    for name in _CONFIGS:
        if "auto_map" in _read(folder / name):
            raise ConfigError(f"{folder / name}: 'auto_map' asks for code; remove it, {_TRUST}")
    if not any(path.suffix == ".safetensors" for path in files):
        raise ConfigError(f"{folder}: no .safetensors file; convert the weights first")


def digest_model_folder(folder: Path) -> str:
    """One digest over every file that decides what the model says, by name and content."""
    return digest_json(
        {
            str(path.relative_to(folder)): digest_file(path)
            for path in sorted(folder.rglob("*"))
            if path.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt")
            and path.name != "manifest.json"
        }
    )


def _read(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ConfigError(f"{path}: not valid JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected an object at the top")
    return value
