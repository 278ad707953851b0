"""What may be loaded from a model folder: safetensors and plain data, never code.

`trust_remote_code=False` was bypassed several times elsewhere, so a local folder that holds code
or pickled weights is refused before any library looks at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cai.errors import ConfigError
from cai.files import digest_file, digest_json

_CODE_OR_PICKLE = {
    *(".py", ".pyc", ".pyd", ".so", ".bin", ".pt", ".pth", ".ckpt", ".tar", ".mar", ".nemo"),
    *(".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".h5", ".keras"),
}
_DECISIVE = {".safetensors", ".json", ".jinja", ".model", ".txt"}
_MAX_CONFIG_BYTES = 10_000_000
_TRUST = "an operator who trusts its author may pass the engine argument trust_remote_code=true"


def check_model_folder(
    folder: Path, *, trust_remote_code: bool = False, config: str = "config.json"
) -> None:
    """Refuse a folder that is no model, or that holds code or pickles."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such model folder")
    if not (folder / config).is_file():
        raise ConfigError(f"{folder}: not a model folder: it has no {config}")
    if trust_remote_code:
        return
    for path in folder.rglob("*"):
        if path.is_symlink() and path.is_dir():
            raise ConfigError(f"{path}: a link to a folder, which is not looked into; remove it")
    files = list(_files(folder))
    for path in files:
        if _CODE_OR_PICKLE.intersection(map(str.lower, (path.suffix, path.resolve().suffix))):
            raise ConfigError(
                f"{path}: code or pickled data in a model folder; remove it, or {_TRUST}"
            )
    for path in files:
        if path.suffix == ".json" and "config" in path.name and _asks_for_code(read_config(path)):
            raise ConfigError(f"{path}: 'auto_map' asks for code; remove it, or {_TRUST}")
    if not any(path.suffix == ".safetensors" for path in files):
        raise ConfigError(f"{folder}: no .safetensors file; convert the weights first")


def digest_model_folder(folder: Path) -> str:
    """One digest over every file that decides what the model says, by name and content."""
    return digest_of_files({name: digest_file(path) for name, path in decisive_files(folder)})


def digest_of_files(digests: Mapping[str, str]) -> str:
    """The same from the digests of a model folder's files by name; others do not count."""
    return digest_json({name: one for name, one in digests.items() if _is_decisive(name)})


def decisive_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file that decides what the model says, with its name below the folder."""
    return ((name, path) for name, path in files_of(folder) if _is_decisive(name))


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a model folder with its name there, manifests included."""
    return ((path.relative_to(folder).as_posix(), path) for path in _files(folder))


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises ConfigError naming the file."""
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_CONFIG_BYTES // 10**6} MB; no config is")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path}: not valid JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected an object at the top")
    return value


def _files(folder: Path) -> Iterator[Path]:
    """Every file below the folder, in order; a link counts as the file it leads to."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _is_decisive(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in _DECISIVE and path.name != "manifest.json"


def _asks_for_code(value: Any) -> bool:
    if isinstance(value, dict):
        return "auto_map" in value or any(map(_asks_for_code, value.values()))
    return isinstance(value, list) and any(map(_asks_for_code, value))
