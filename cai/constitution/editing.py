"""Change a constitution's file and leave its comments, and every line not concerned, as they are.

ruamel.yaml makes the change; `three_way` then carries it over to the user's own lines, so that
what ruamel would have written another way stays too. Takes only text that the guarded loader has
accepted, and proves what it made by loading it. Start from `edited`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from cai.errors import ConstitutionError, MissingDependencyError
from cai.files import canonical_json
from cai.yamlguard import Loaded, load_yaml, reads_as_text

_NO_WRAP = 1_000_000

Quote = Callable[[str], bool]


def edited(loaded: Loaded, data: Mapping[str, Any]) -> str:
    """The text of `loaded`, changed so that it means `data`.

    Entries of lists are told apart by their `id` where they have one, so they may move.
    Raises ConstitutionError when the text cannot be changed so.
    """
    if _same(loaded.data, data):
        return loaded.text
    own = loaded.text.replace("\r\n", "\n")
    for quote in (_needs_quotes, lambda _text: True):
        for text in _candidates(own, loaded, data, quote):
            if _means(text, data):
                return text.replace("\n", "\r\n") if "\r\n" in loaded.text else text
    raise loaded.fail("cannot be changed without losing its form; make the change by hand")


def three_way(base: str, own: str, changed: str) -> str:
    r"""`own` with the changes that lead from `base` to `changed`; own lines win elsewhere.

    Comments that stand behind what was deleted belong to what follows, and stay.

    >>> three_way("a: 1\nb: 2\n", "a:   1\nb: 2 # two\n", "a: 1\nb: 2\nc: 3\n")
    'a:   1\nb: 2 # two\nc: 3\n'
    """
    base_lines, own_lines, new_lines = (
        text.splitlines(keepends=True) for text in (base, own, changed)
    )
    edits = _Edits(base_lines, new_lines)
    written: list[str] = []
    end = 0
    for region in _regions(base_lines, own_lines):
        if region.start >= end:
            written += edits.inserted(region.start)
        end = max(end, region.end)
        new = edits.replacement(region.start, region.end)
        is_kept = new == base_lines[region.start : region.end]
        written += own_lines[region.own_start : region.own_end] if is_kept else new
    return "".join([*written, *edits.inserted(len(base_lines))])


class _Region(NamedTuple):
    """Lines of the base and the user's own lines that say the same."""

    start: int
    end: int
    own_start: int
    own_end: int


def _regions(base: Sequence[str], own: Sequence[str]) -> Iterator[_Region]:
    matcher = SequenceMatcher(None, base, own, autojunk=False)
    for _, start, end, own_start, own_end in matcher.get_opcodes():
        if end - start == own_end - own_start:  # line by line: equal, or in another form
            for offset in range(end - start):
                at, own_at = start + offset, own_start + offset
                yield _Region(at, at + 1, own_at, own_at + 1)
        else:
            yield _Region(start, end, own_start, own_end)


class _Edits:
    """What became of each line of the base."""

    def __init__(self, base: Sequence[str], new: Sequence[str]) -> None:
        self._inserted: dict[int, list[str]] = {}
        self._became: list[list[str]] = [[line] for line in base]
        matcher = SequenceMatcher(None, base, new, autojunk=False)
        for kind, start, end, new_start, new_end in matcher.get_opcodes():
            lines = list(new[new_start:new_end])
            if kind == "insert":
                self._inserted[start] = lines
            elif kind != "equal":
                before = base[start - 1] if start else ""
                tail = _tail(base[start:end], before)
                kept = tail if kind == "delete" else [line for line in tail if line not in lines]
                self._became[start:end] = [[*lines, *kept], *([[]] * (end - start - 1))]

    def inserted(self, at: int) -> list[str]:
        """New lines that stand before a line of the base."""
        return self._inserted.get(at, [])

    def replacement(self, start: int, end: int) -> list[str]:
        """What these lines of the base are now, with what was put between them."""
        lines: list[str] = []
        for at in range(start, end):
            lines += (self.inserted(at) if at > start else []) + self._became[at]
        return lines


def _tail(lines: Sequence[str], before: str) -> list[str]:
    """Comments and blank lines after the last line of content; no blank line upon another."""
    last = max((at for at, line in enumerate(lines) if re.match(r"\s*[^\s#]", line)), default=-1)
    tail = list(lines[last + 1 :])
    while tail and not before.strip() and not tail[0].strip():
        tail.pop(0)
    return tail


def _candidates(own: str, loaded: Loaded, data: Mapping[str, Any], quote: Quote) -> Iterator[str]:
    """The user's text with the change; and the text as ruamel writes it, should that fail."""
    yaml = _round_trip(loaded)
    document = yaml.load(own)
    before = _dumped(yaml, document)
    _Updater(quote).update(document, loaded.data, data)
    after = _dumped(yaml, document)
    yield three_way(before, own, after)
    yield after


def _round_trip(loaded: Loaded) -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError as exc:
        raise MissingDependencyError(
            "changing a constitution's file", "ruamel.yaml", "edit"
        ) from exc
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _NO_WRAP
    yaml.indent(mapping=2, **_list_style(loaded))
    return yaml


def _list_style(loaded: Loaded) -> dict[str, int]:
    """How far the entries of the first list, and their dashes, stand to the right of its key."""
    for at, position in loaded.values.items():
        if len(at) == 2 and at[1] == 0 and isinstance(loaded.data.get(at[0]), list):
            line = loaded.text.splitlines()[position.line - 1]
            dash = line.find("-")
            if 0 <= dash < position.column - 1 and not line[:dash].strip():
                return {"sequence": position.column - 1, "offset": dash}
    return {"sequence": 4, "offset": 2}


def _dumped(yaml: Any, document: Any) -> str:
    with io.StringIO() as stream:
        yaml.dump(document, stream)
        return stream.getvalue()


class _Updater:
    """Changes mappings and lists of ruamel's in place; `quote` tells which new text to quote."""

    def __init__(self, quote: Quote) -> None:
        self._quote = quote

    def update(self, node: Any, old: Any, new: Any) -> None:
        """Change a node that means `old` to mean `new`."""
        if isinstance(new, Mapping):
            self._update_mapping(node, old, new)
        else:
            self._update_list(node, old, new)

    def _update_mapping(self, node: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        for key in [key for key in old if key not in new]:
            del node[key]
        for index, (key, value) in enumerate(new.items()):
            if key not in old:
                node.insert(min(index, len(node)), key, self._fresh(value))
            elif not _same(old[key], value):
                if _is_alike(old[key], value):
                    self.update(node[key], old[key], value)
                else:
                    node[key] = self._fresh(value)

    def _update_list(self, node: Any, old: Sequence[Any], new: Sequence[Any]) -> None:
        names = [_name(one) for one in old]
        wanted = [_name(one) for one in new]
        matcher = SequenceMatcher(None, names, wanted, autojunk=False)
        for kind, start, end, new_start, new_end in reversed(matcher.get_opcodes()):
            if kind == "equal":
                for offset in range(end - start):
                    before, after = old[start + offset], new[new_start + offset]
                    if not _same(before, after):
                        self.update(node[start + offset], before, after)
                continue
            del node[start:end]
            for offset, value in enumerate(new[new_start:new_end]):
                node.insert(start + offset, self._fresh(value))

    def _fresh(self, value: Any) -> Any:
        """A value as ruamel writes it in our style: text that would read otherwise in quotes."""
        from ruamel.yaml.comments import CommentedMap, CommentedSeq
        from ruamel.yaml.scalarstring import DoubleQuotedScalarString

        if isinstance(value, Mapping):
            return CommentedMap((key, self._fresh(one)) for key, one in value.items())
        if isinstance(value, list | tuple):
            fresh = CommentedSeq(self._fresh(one) for one in value)
            if all(not isinstance(one, Mapping | list) for one in value):
                fresh.fa.set_flow_style()
            return fresh
        if isinstance(value, str) and self._quote(value):
            return DoubleQuotedScalarString(value)
        return value


def _name(entry: Any) -> str:
    """What makes an entry of a list the same one after a change."""
    if isinstance(entry, Mapping) and isinstance(entry.get("id"), str):
        return f"id {entry['id']}"
    return canonical_json(entry)


def _needs_quotes(text: str) -> bool:
    return not reads_as_text(text) or text.startswith((":", "?"))


def _is_alike(old: Any, new: Any) -> bool:
    return (isinstance(old, Mapping) and isinstance(new, Mapping)) or (
        isinstance(old, list) and isinstance(new, list)
    )


def _means(text: str, data: Mapping[str, Any]) -> bool:
    try:
        return _same(load_yaml(text).data, data)
    except ConstitutionError:
        return False


def _same(a: Any, b: Any) -> bool:
    """Equal as data: 3 is 3.0, but true is not 1."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
