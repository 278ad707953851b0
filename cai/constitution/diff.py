"""What changed between two constitutions, principle by principle: by meaning, not by lines.

Comments, order of keys and style are no changes. Start from `compare`; how a change looks is up to
`cai.evaluate.constitution_pages` and the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cai.constitution.schema import Constitution, Principle
from cai.files import canonical_json

Kind = Literal["added", "removed", "changed", "moved"]
TEXTS = ("critique", "revision", "compare")
_OWN = ("title", "composition", "extends", "provenance", "few_shot")


@dataclass(frozen=True, slots=True)
class Change:
    """One key with another value; None where it is absent."""

    key: str
    old: Any
    new: Any

    @property
    def is_text(self) -> bool:
        """Whether both sides are words, worth a diff by word."""
        return isinstance(self.old, str) and isinstance(self.new, str)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"key": self.key, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class PrincipleChange:
    """What became of one principle. `moved`: nothing but its place, where places matter."""

    id: str
    kind: Kind
    changes: tuple[Change, ...] = ()
    old: Principle | None = None
    new: Principle | None = None

    @property
    def is_reworded(self) -> bool:
        """Whether a model will read other words."""
        return any(change.key in TEXTS for change in self.changes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: an added or removed principle whole, a changed one by its changes."""
        shown: dict[str, Any] = {"id": self.id, "kind": self.kind}
        if self.kind == "added" and self.new is not None:
            shown["principle"] = _plain(self.new)
        elif self.kind == "removed" and self.old is not None:
            shown["principle"] = _plain(self.old)
        if self.changes:
            shown["changes"] = [change.as_dict() for change in self.changes]
        return shown


@dataclass(frozen=True, slots=True)
class ConstitutionDiff:
    """Every change from `old` to `new`, the constitution's own keys first."""

    old: Constitution
    new: Constitution
    changes: tuple[Change, ...]
    principles: tuple[PrincipleChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both mean the same."""
        return not self.changes and not self.principles

    def of_kind(self, kind: Kind) -> tuple[PrincipleChange, ...]:
        """The principles that were added, removed, changed or moved."""
        return tuple([one for one in self.principles if one.kind == kind])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "from": {"ref": self.old.ref, "digest": self.old.digest},
            "to": {"ref": self.new.ref, "digest": self.new.digest},
            "same": self.is_empty,
            "changes": [change.as_dict() for change in self.changes],
            "principles": [one.as_dict() for one in self.principles],
        }


def compare(old: Constitution, new: Constitution) -> ConstitutionDiff:
    """What has to change in `old` to make it `new`. Names and versions do not count."""
    changes = tuple(_changes(_plain(old), _plain(new), _OWN))
    return ConstitutionDiff(old, new, changes, tuple(_principles(old, new)))


def _principles(old: Constitution, new: Constitution) -> Iterator[PrincipleChange]:
    """Removed ones in the old order, then the rest in the new."""
    before = {one.id: one for one in old.principles}
    after = {one.id: one for one in new.principles}
    for id, principle in before.items():
        if id not in after:
            yield PrincipleChange(id, "removed", old=principle)
    moved = _moved([id for id in before if id in after], [id for id in after if id in before])
    for id, principle in after.items():
        if id not in before:
            yield PrincipleChange(id, "added", new=principle)
            continue
        was, now = _plain(before[id]), _plain(principle)
        changes = [*_changes(was, now, [key for key in Principle.model_fields if key != "id"])]
        if id in moved:
            changes.append(Change("place", *moved[id]))
        if changes:
            kind: Kind = "moved" if len(changes) == 1 and id in moved else "changed"
            yield PrincipleChange(id, kind, tuple(changes), before[id], principle)


def _moved(before: Sequence[str], after: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Old and new place, from 1, of the fewest principles whose moving explains the new order."""
    kept = _longest_common(before, after)
    return {id: (before.index(id) + 1, after.index(id) + 1) for id in after if id not in kept}


def _longest_common(before: Sequence[str], after: Sequence[str]) -> frozenset[str]:
    """The ids of a longest run of principles whose order stayed."""
    place = {id: index for index, id in enumerate(before)}
    runs: list[list[str]] = []
    for id in after:
        longest: list[str] = []
        for run in runs:
            if place[run[-1]] < place[id] and len(run) > len(longest):
                longest = run
        runs.append([*longest, id])
    return frozenset(sorted(runs, key=len)[-1] if runs else ())


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]
) -> Iterator[Change]:
    for key in keys:
        if canonical_json(old.get(key)) != canonical_json(new.get(key)):
            yield Change(key, old.get(key), new.get(key))


def _plain(record: Constitution | Principle) -> dict[str, Any]:
    """As JSON, with the defaults that a reader should see beside a change."""
    return record.model_dump(mode="json", exclude_none=True)
