"""`extends: base@1`: a file's principles laid over those of another constitution.

A principle with the id of one of the base's changes the keys that it sets and stays in its place;
others follow after. Knows no folder: start from `flatten`, with a function that finds the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cai.constitution.schema import Constitution
from cai.errors import CaiError, ConstitutionError
from cai.yamlguard import KeyPath, Loaded, Position

INHERITED = ("composition", "few_shot")
"""Keys beside the principles that come from the base where the file does not set them."""


class CircleError(ConstitutionError):
    """Constitutions that extend each other; said at the place of whoever was asked for."""


def flatten(loaded: Loaded, base_of: Callable[[str], Constitution]) -> Loaded:
    """`loaded` with the base's content written in; itself when it extends nothing.

    Places stay those of the file, so a complaint about a principle points at its own lines.
    Raises ConstitutionError at the line of `extends` when the base cannot be had.
    """
    extends = loaded.data.get("extends") if isinstance(loaded.data, dict) else None
    if not isinstance(extends, str):
        return loaded
    try:
        base = base_of(extends)
    except CircleError as exc:
        line, column = loaded.position(("extends",))
        raise CircleError(exc.reason, path=loaded.path, line=line, column=column) from None
    except CaiError as exc:
        message = f"extends {extends[:100]}, which cannot be had: {_told(exc)}"
        raise loaded.fail(message, ("extends",)) from None
    return _merged(loaded, base)


def own_ids(loaded: Loaded) -> frozenset[str]:
    """Ids of the principles that stand in the file itself."""
    entries = loaded.data.get("principles", ()) if isinstance(loaded.data, dict) else ()
    return frozenset(
        one["id"] for one in entries if isinstance(one, dict) and isinstance(one.get("id"), str)
    )


def _told(exc: CaiError) -> str:
    """The base's complaint, its file named from the constitution's folder on."""
    if isinstance(exc, ConstitutionError) and exc.path is not None:
        where = ["/".join(exc.path.parts[-2:]), exc.line, exc.column]
        return ":".join(str(part) for part in where if part is not None) + f": {exc.reason}"
    return exc.message


def _merged(loaded: Loaded, base: Constitution) -> Loaded:
    content = base.model_dump(mode="json", exclude_defaults=True)
    data = {**{key: content[key] for key in INHERITED if key in content}, **loaded.data}
    written = data.get("principles")
    if not isinstance(written, list):
        return replace(loaded, data=data)
    merged, places = _overlaid(content["principles"], written)
    return replace(
        loaded,
        data={**data, "principles": merged},
        keys=_moved(loaded.keys, places),
        values=_moved(loaded.values, places),
    )


def _overlaid(base: list[dict[str, Any]], written: list[Any]) -> tuple[list[Any], dict[int, int]]:
    """The principles of both, and for each of the file's its place among them."""
    merged: list[Any] = list(base)
    of_base = {one["id"]: index for index, one in enumerate(base)}
    free = dict(of_base)
    places: dict[int, int] = {}
    for index, one in enumerate(written):
        id = one.get("id") if isinstance(one, dict) else None
        if isinstance(id, str) and id in of_base:
            one = {**base[of_base[id]], **one}
            # An id takes its place once: a second one is appended, and refused as a duplicate.
            at = free.pop(id, None)
        else:
            at = None
        places[index] = len(merged) if at is None else at
        merged[places[index] : places[index] + 1] = [one]
    return merged, places


def _moved(
    positions: Mapping[KeyPath, Position], places: Mapping[int, int]
) -> dict[KeyPath, Position]:
    moved: dict[KeyPath, Position] = {}
    for at, position in positions.items():
        if len(at) > 1 and at[0] == "principles" and isinstance(at[1], int):
            at = ("principles", places[at[1]], *at[2:])
        moved[at] = position
    return moved
