"""PyYAML's parse events to plain data with positions, refusing what the subset leaves out.

PyYAML's own constructors never run: an event is a piece of syntax, looked at before it becomes a
value. Start from `build`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from cai.yamlguard.explain import explain
from cai.yamlguard.scalars import resolve
from cai.yamlguard.text import Refusal, unprintable

MAX_NODES = 10_000
MAX_DEPTH = 20

KeyPath = tuple[str | int, ...]


class Position(NamedTuple):
    """A place in a file, counted from 1 as editors do."""

    line: int
    column: int


@dataclass(slots=True)
class Built:
    """The data of a text, with the places of its keys and values by path."""

    data: Any = None
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    values: dict[KeyPath, Position] = field(default_factory=dict)


@dataclass(slots=True)
class _Container:
    """An open mapping or list. `key` is the mapping's key that waits for its value."""

    items: dict[str, Any] | list[Any]
    path: KeyPath
    key: str | None = None


def build(text: str) -> Built:
    """Data and places of the one document in `text`. Raises Refusal."""
    builder = _Builder()
    loader: Any = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            builder.take(loader.get_event())
    except yaml.MarkedYAMLError as exc:
        raise explain(exc, text) from None
    except (ValueError, OverflowError) as exc:  # an escape beyond Unicode, for one
        mark = loader.get_mark()
        message = f"is not valid YAML: {exc}"
        raise Refusal(message, mark.line + 1, mark.column + 1) from None
    finally:
        loader.dispose()
    return builder.built


class _Builder:
    """Puts events together; the stack holds the open containers, the innermost last."""

    def __init__(self) -> None:
        self.built = Built()
        self._stack: list[_Container] = []
        self._num_nodes = 0
        self._num_documents = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._begin_document(event)
        elif isinstance(event, yaml.AliasEvent):
            raise _refuse(
                event, f"has an alias, '*{str(event.anchor)[:80]}'; write its content out"
            )
        elif isinstance(event, yaml.NodeEvent):
            self._begin_node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()

    def _begin_document(self, event: yaml.DocumentStartEvent) -> None:
        self._num_documents += 1
        if self._num_documents > 1:
            raise _refuse(event, "has a second document; keep one per file and delete this '---'")
        mark = event.start_mark
        if event.version or event.tags or _character(mark) == "%":
            raise _refuse(event, "has a %-directive; delete the line")

    def _begin_node(self, event: Any) -> None:
        if event.anchor is not None:
            raise _refuse(event, f"has an anchor, '&{event.anchor[:80]}'; delete it")
        if event.tag is not None:
            raise _refuse(event, f"has a tag, '{_short_tag(event.tag)}'; delete it")
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            raise _refuse(event, f"has more than {MAX_NODES:,} values; split it")
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        else:
            self._open(event)

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        plain = event.implicit[0]
        holder = self._stack[-1] if self._stack else None
        if holder is not None and isinstance(holder.items, dict) and holder.key is None:
            self._take_key(holder, event, plain=plain)
        else:
            self._place(_value(event, plain=plain), event)

    def _take_key(self, holder: _Container, event: yaml.ScalarEvent, *, plain: bool) -> None:
        if plain and event.value == "<<":
            raise _refuse(event, "has a merge key, '<<'; write the merged keys out")
        key = _value(event, plain=plain)
        if not isinstance(key, str):
            shown = event.value[:80] or "an empty one"
            raise _refuse(event, f"has a key that is not text, {shown}; put it in quotes")
        path = (*holder.path, key)
        if (first := self.built.keys.get(path)) is not None:
            raise _refuse(event, f"has '{key[:80]}' twice, first in line {first.line}; delete one")
        self.built.keys[path] = _position(event)
        holder.key = key

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _refuse(event, f"is nested deeper than {MAX_DEPTH} levels; flatten it")
        holder = self._stack[-1] if self._stack else None
        if holder is not None and isinstance(holder.items, dict) and holder.key is None:
            raise _refuse(event, "has a key that is a list or mapping; use text as key")
        items: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Container(items, self._place(items, event)))

    def _place(self, value: Any, event: Any) -> KeyPath:
        """Put a value where it belongs and return its path."""
        path: KeyPath = ()
        if not self._stack:
            self.built.data = value
        else:
            holder = self._stack[-1]
            if isinstance(holder.items, list):
                path = (*holder.path, len(holder.items))
                holder.items.append(value)
            else:
                assert holder.key is not None, "a value came before its key"
                path = (*holder.path, holder.key)
                holder.items[holder.key] = value
                holder.key = None
        self.built.values[path] = _position(event)
        return path


def _value(event: yaml.ScalarEvent, *, plain: bool) -> Any:
    if (character := unprintable(event.value)) is not None:
        raise _refuse(
            event, f"has an escape for U+{ord(character):04X}, which is not printable; delete it"
        )
    if not plain:
        return event.value
    try:
        return resolve(event.value)
    except ValueError as exc:
        raise _refuse(event, str(exc)) from None


def _position(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _refuse(event: Any, message: str) -> Refusal:
    return Refusal(message, *_position(event))


def _character(mark: Any) -> str:
    return str(mark.buffer[mark.pointer]) if mark.buffer is not None else ""


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:80]
