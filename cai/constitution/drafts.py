"""Save a draft that others may be editing too: only what one has seen is replaced.

A draft's tag is the digest of its file's bytes, so that an edit of a comment counts. Start from
`read_draft` and `save_draft`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.editing import edited
from cai.constitution.lock import exclusive
from cai.constitution.release import FIRST_LINE
from cai.constitution.schema import NAME_PATTERN, Case, Constitution, Principle
from cai.constitution.store import ConstitutionStore
from cai.errors import CaiError, ConstitutionError, NotFoundError
from cai.files import digest_bytes, replace_text
from cai.yamlguard import MAX_BYTES, dump_yaml, load_yaml

_SHOWN_ONLY = frozenset({"id", "object", "ref", "digest", "text", "findings", "error"})
"""Keys that a shown constitution has beside its content."""


_DEFAULTS: Mapping[str, Any] = {
    name: list(field.default) if isinstance(field.default, tuple) else field.default
    for model in (Constitution, Principle, Case)
    for name, field in model.model_fields.items()
    if not field.is_required()
}


class Draft(NamedTuple):
    """A draft as its file is: `constitution` is None, and `error` set, when that is broken."""

    text: str
    tag: str
    constitution: Constitution | None
    error: str | None = None


def read_draft(store: ConstitutionStore, name: str) -> Draft:
    """The draft's file now. Raises NotFoundError when there is none."""
    path = _path(store, name)
    data = _bytes(path)
    if data is None:
        raise NotFoundError(
            f"'{name[:100]}' has no draft; make one with 'cai constitution new {name[:100]}'",
            param="constitution",
        )
    text = data.decode("utf-8", "replace")
    try:
        return Draft(text, digest_bytes(data), store.read(load_yaml(data, path=path)))
    except CaiError as exc:
        message = exc.reason if isinstance(exc, ConstitutionError) else exc.message
        return Draft(text, digest_bytes(data), None, message)


def save_draft(
    store: ConstitutionStore,
    name: str,
    *,
    text: str | None = None,
    content: Mapping[str, Any] | None = None,
    check: Callable[[str | None], None],
) -> Draft:
    """Put a draft in its place: a whole `text`, or `content`, which leaves the file's comments.

    `check` gets the tag of what is there (None: nothing) and raises to keep it. Raises
    ConstitutionError when what was given is no valid draft of this name; nothing is written then.
    """
    assert (text is None) != (content is None), "a draft is saved as text or as content"
    path = _path(store, name)
    store.root.mkdir(parents=True, exist_ok=True)
    with exclusive(store.root):
        now = _bytes(path)
        check(None if now is None else digest_bytes(now))
        if text is None:
            assert content is not None, "checked above"
            text = _written(path, now, {"name": name, "version": "draft", **content})
        constitution = store.read(load_yaml(text, path=path))
        replace_text(path, text)
        store.wrote(path)
    return Draft(text, digest_bytes(text.encode()), constitution)


def _path(store: ConstitutionStore, name: str) -> Path:
    if not NAME_PATTERN.fullmatch(name):
        raise ConstitutionError(
            f"{name[:100]!r} is no name; use up to 64 of a-z, 0-9, '-', '_' and '.'",
            param="constitution",
        )
    return store.path(name, "draft")


def _bytes(path: Path) -> bytes | None:
    """A file's bytes, one more than are allowed at most, so that it is refused later."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConstitutionError(f"cannot be read: {exc.strerror or exc}", path=path) from None


def _written(path: Path, now: bytes | None, content: Mapping[str, Any]) -> str:
    """The content as YAML: as an edit of what is there, or anew when that cannot be read."""
    try:
        loaded = None if now is None else load_yaml(now, path=path)
    except ConstitutionError:
        loaded = None
    old = loaded.data if loaded is not None and isinstance(loaded.data, dict) else {}
    shown = {key: value for key, value in content.items() if key not in _SHOWN_ONLY}
    data = _tidied(shown, old)
    if loaded is not None and old:
        return edited(loaded, data)
    return f"{FIRST_LINE}\n{dump_yaml(data)}"


def _tidied(new: Any, old: Any) -> Any:
    """The content without defaults that nobody wrote: shown constitutions spell them out."""
    if isinstance(new, Mapping):
        was = old if isinstance(old, Mapping) else {}
        return {
            key: _tidied(value, was.get(key))
            for key, value in new.items()
            if key in was or not (key in _DEFAULTS and value == _DEFAULTS[key])
        }
    if isinstance(new, list):
        entries = old if isinstance(old, list) else []
        by_id = {
            one["id"]: one
            for one in entries
            if isinstance(one, Mapping) and isinstance(one.get("id"), str)
        }
        return [_tidied(one, _same_entry(one, at, entries, by_id)) for at, one in enumerate(new)]
    return new


def _same_entry(one: Any, at: int, entries: list[Any], by_id: Mapping[str, Any]) -> Any:
    """What an entry of a list was before: the one with its id, or else in its place."""
    if isinstance(one, Mapping) and isinstance(one.get("id"), str):
        return by_id.get(one["id"])
    return entries[at] if at < len(entries) else None
