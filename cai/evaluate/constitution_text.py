"""A constitution's changes in words: for a terminal, for JSON, for a changelog. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cai.constitution.diff import Change, ConstitutionDiff, PrincipleChange
from cai.evaluate.diff import word_diff

_FORMS = {"same": "{}", "gone": "[-{}-]", "new": "{{+{}+}}"}
_MARKDOWN = {"same": "{}", "gone": "~~{}~~", "new": "**{}**"}
_SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": "^"}


def diff_lines(diff: ConstitutionDiff) -> Iterator[str]:
    """The diff line by line; words that went stand in [-…-], new ones in {+…+}."""
    yield f"{diff.old.ref} -> {diff.new.ref}"
    if diff.is_empty:
        yield "they mean the same"
    for change in diff.changes:
        yield f"~ {_change_line(change)}"
    for one in diff.principles:
        yield f"{_SIGNS[one.kind]} {one.id}: {_heading(one)}"
        for change in one.changes:
            yield f"    {_change_line(change)}"


def diff_dict(diff: ConstitutionDiff) -> dict[str, Any]:
    """The diff as JSON, each changed text with its diff by word."""
    shown = diff.as_dict()
    _add_words(shown["changes"])
    for one in shown["principles"]:
        _add_words(one.get("changes", []))
    return shown


def marked(old: str, new: str) -> str:
    """A word diff in one line.

    >>> marked("a red hat", "a blue hat")
    'a [-red-]{+blue+} hat'
    """
    return "".join(_FORMS[piece.kind].format(piece.text) for piece in word_diff(old, new))


def marked_down(old: str, new: str) -> str:
    """A word diff in Markdown.

    >>> marked_down("a red hat", "a blue hat")
    'a ~~red~~ **blue** hat'
    """
    pieces = word_diff(old, new)
    shown = []
    for at, (kind, text) in enumerate(pieces):
        word = text.strip()
        before, _, after = text.partition(word) if word else (text, "", "")
        escaped = re.sub(r"([\\`*_~<\[])", r"\\\1", word)
        shown.append(f"{before}{_MARKDOWN[kind].format(escaped) if word else ''}{after}")
        if kind == "gone" and [one.kind for one in pieces[at + 1 : at + 2]] == ["new"]:
            shown.append(" ")
    return " ".join("".join(shown).split())


def changelog(name: str, steps: list[ConstitutionDiff], first: str) -> str:
    """`CHANGELOG.md` of a constitution: `steps` lead from each release to the next.

    `first` is the reference of the oldest release.
    """
    parts = [f"# Changes of {name}", "", "Made from the releases; edits here are lost."]
    for diff in reversed(steps):
        parts += ["", f"## {diff.new.ref}: {diff.new.title}", "", *_changelog_lines(diff)]
    parts += ["", f"## {first}", "", "- The first release."]
    return "\n".join(parts) + "\n"


def _changelog_lines(diff: ConstitutionDiff) -> list[str]:
    lines = [f"- {_sentence(change)}" for change in diff.changes]
    for one in diff.principles:
        why = f" {one.new.rationale}" if one.new is not None and one.new.rationale else ""
        what = _heading(one)
        lines.append(f"- `{one.id}`: {what}.{why}")
        lines += [
            f"  - {change.key}: {marked_down(change.old, change.new)}"
            for change in one.changes
            if change.is_text
        ]
    return lines or ["- Nothing that a model could notice."]


def _heading(one: PrincipleChange) -> str:
    """What happened to a principle, in a few words."""
    if one.kind == "added":
        assert one.new is not None, "an added principle is there"
        return f"added, weight {one.new.weight:g}, {_cases_of(len(one.new.cases))}"
    if one.kind == "removed":
        return "removed"
    words = []
    for change in one.changes:
        if change.key == "weight":
            words.append(f"weight {change.old:g} to {change.new:g}")
        elif change.key == "place":
            words.append(f"moved from place {change.old} to {change.new}")
        elif change.key == "cases":
            words.append(_cases(change))
        elif change.key not in ("critique", "revision", "compare"):
            words.append(f"another {change.key}")
    if one.is_reworded:
        words.insert(0, "reworded")
    return ", ".join(words)


def _cases(change: Change) -> str:
    old, new = change.old or [], change.new or []
    added = sum(case not in old for case in new)
    removed = sum(case not in new for case in old)
    counts = [
        f"{_cases_of(number)} {what}"
        for number, what in ((added, "added"), (removed, "removed"))
        if number
    ]
    return " and ".join(counts) or "cases in another order"


def _cases_of(number: int) -> str:
    return f"{number} case" if number == 1 else f"{number} cases"


def _sentence(change: Change) -> str:
    if change.key == "few_shot":
        return f"{len(change.new or [])} worked examples, were {len(change.old or [])}."
    if change.is_text:
        return f"{change.key.capitalize()}: {marked_down(change.old, change.new)}"
    return f"Another {change.key}."


def _change_line(change: Change) -> str:
    if change.is_text:
        return f"{change.key}: {marked(change.old, change.new)}"
    if change.key == "cases":
        return f"cases: {_cases(change)}"
    return f"{change.key}: {_short(change.old)} -> {_short(change.new)}"


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        is_plain = all(isinstance(one, str) for one in value)
        return ", ".join(value) if is_plain and value else f"{len(value)} entries"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _add_words(changes: list[dict[str, Any]]) -> None:
    for change in changes:
        old, new = change["old"], change["new"]
        if isinstance(old, str) and isinstance(new, str):
            change["words"] = [list(piece) for piece in word_diff(old, new)]
