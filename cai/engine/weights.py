"""Names, shapes and dtypes of a folder's tensors, read from the safetensors headers without torch.

Every number of a header is held against the file, so a torn file, a hole or an overlap is an error
that names it. The values themselves are not looked at. Start from `tensors_of(folder)`.

The format: 8 bytes with the header's length (little-endian), a JSON header, then the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cai.engine.model_folder import read_config
from cai.errors import PolicyError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
INDEX = "model.safetensors.index.json"

_MAX_RANK = 16
_MAX_SIZE = 2**48  # of one dimension
_NUM_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}


class TensorInfo(BaseModel):
    """A tensor's shape and its dtype in the format's words (`BF16`, `F32`, …)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def tensors_of(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of a model folder by name, over all its shards, in order of name.

    With an index file its shards count and no others, as loaders have it.
    Raises PolicyError naming the file that is torn, and the shard or tensor that is missing.
    """
    if (folder / INDEX).is_file():
        found = _indexed(folder)
    else:
        shards = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
        if not shards:
            raise PolicyError(f"{folder}: no .safetensors file")
        found = _merged(shards)
    return dict(sorted(found.items()))


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one file. Raises PolicyError naming the file, and the tensor where one is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise PolicyError(f"{path}: torn: {size} bytes end inside the header")
            if length > MAX_HEADER_BYTES:
                raise PolicyError(f"{path}: a header of {length} bytes; {MAX_HEADER_BYTES} is most")
            header = json.loads(
                file.read(length), object_pairs_hook=_unique, parse_constant=_no_constant
            )
    except OSError as exc:
        raise PolicyError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise PolicyError(f"{path}: the header is not valid JSON: {exc}") from exc
    return _checked(path, header, size - 8 - length)


def _indexed(folder: Path) -> dict[str, TensorInfo]:
    index = folder / INDEX
    weight_map = read_config(index).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise PolicyError(f"{index}: no 'weight_map' from tensors to files")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise PolicyError(f"{index}: names the file '{name}', which is not in the folder")
    headers = {name: read_header(folder / name) for name in names}
    for tensor, name in weight_map.items():
        if tensor not in headers[name]:
            raise PolicyError(f"{folder / name}: lacks the tensor '{tensor}' that the index names")
    for name, header in headers.items():
        if extra := sorted(header.keys() - weight_map.keys()):
            raise PolicyError(f"{folder / name}: holds '{extra[0]}', which the index does not name")
    return {tensor: headers[name][tensor] for tensor, name in weight_map.items()}


def _merged(shards: list[Path]) -> dict[str, TensorInfo]:
    found: dict[str, TensorInfo] = {}
    for path in shards:
        header = read_header(path)
        if twice := sorted(found.keys() & header.keys()):
            raise PolicyError(f"{path}: holds '{twice[0]}', which another file holds too")
        found |= header
    return found


def _checked(path: Path, header: Any, num_data: int) -> dict[str, TensorInfo]:
    if not isinstance(header, dict):
        raise PolicyError(f"{path}: the header is no JSON object")
    header.pop("__metadata__", None)
    found: dict[str, TensorInfo] = {}
    places: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        try:
            found[name], begin, end = _entry(entry)
        except ValueError as exc:
            raise PolicyError(f"{path}: the tensor '{name[:100]}' {exc}") from None
        places.append((begin, end, name))
    for problem in _misplaced(sorted(places), num_data):
        raise PolicyError(f"{path}: {problem}")
    return found


def _entry(entry: Any) -> tuple[TensorInfo, int, int]:
    """A tensor with the place of its data. Raises ValueError whose text goes on from its name."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _NUM_BITS:
        raise ValueError(f"has the unknown dtype {str(dtype)[:40]!r}")
    if not _are_sizes(shape) or len(shape) > _MAX_RANK:
        raise ValueError("has no valid shape")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError("has no valid data_offsets")
    num_bytes = -(-math.prod(shape) * _NUM_BITS[dtype] // 8)
    if offsets[1] - offsets[0] != num_bytes:
        raise ValueError(f"takes {num_bytes} bytes, but is given {offsets[1] - offsets[0]}")
    return TensorInfo(shape=tuple(shape), dtype=dtype), offsets[0], offsets[1]


def _misplaced(places: list[tuple[int, int, str]], num_data: int) -> Iterator[str]:
    """What is wrong with how the tensors lie in the data; they must fill it without a gap."""
    reached = 0
    for begin, end, name in places:
        if begin < reached:
            yield f"the tensor '{name}' overlaps the one before it"
        elif begin > reached:
            yield f"{begin - reached} bytes before the tensor '{name}' belong to none"
        reached = end
    if reached > num_data:
        yield f"torn: the data ends {reached - num_data} bytes early"
    elif reached < num_data:
        yield f"{num_data - reached} bytes after the last tensor belong to none"


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= _MAX_SIZE
        for one in value
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")
