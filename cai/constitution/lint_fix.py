"""Repairs what can be repaired without a decision: `cai constitution lint --fix`.

A repair never changes what a release means: its digest is compared. Start from `fix`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.editing import edited
from cai.constitution.lint import UNREADABLE, Finding, lint_loaded
from cai.constitution.lint_rules import HIDDEN, RULES, SCHEMA_LINE
from cai.constitution.release import FIRST_LINE
from cai.constitution.store import ConstitutionStore
from cai.errors import CaiError
from cai.files import replace_text
from cai.yamlguard import load_yaml, load_yaml_file

FIXABLE = frozenset(rule.id for rule in RULES if rule.fixable)


class Fixed(NamedTuple):
    """What was repaired in a file, and why the rest was not."""

    repaired: tuple[Finding, ...] = ()
    kept: str | None = None


def fix(path: Path, *, store: ConstitutionStore | None = None) -> Fixed:
    """Repair a file in place; a file that cannot be used, or needs nothing, is left alone.

    In a release only comments are touched, so that its digest stays.
    """
    store = store or ConstitutionStore(path.parent.parent)
    try:
        loaded = load_yaml_file(path)
    except CaiError:
        return Fixed()
    found = [one for one in lint_loaded(loaded, path, store) if one.rule in FIXABLE | UNREADABLE]
    if not found or any(one.rule in UNREADABLE for one in found):
        return Fixed()
    kept = None
    text = edited(loaded, _cleaned(loaded.data))
    if text != loaded.text and path.stem != "draft":
        text, kept = loaded.text, "a release keeps its text; make the change in draft.yaml"
    text = HIDDEN.sub("", text) if kept is None else text
    if not SCHEMA_LINE.match(text):
        text = f"{FIRST_LINE}\n{text}"
    if text == loaded.text:
        return Fixed((), kept)
    after = lint_loaded(load_yaml(text, path=path), path, store)
    replace_text(path, text)
    remaining = {(one.rule, one.message) for one in after}
    return Fixed(tuple([one for one in found if (one.rule, one.message) not in remaining]), kept)


def _cleaned(value: Any, key: str = "") -> Any:
    """The data without invisible characters and repeated tags."""
    if isinstance(value, dict):
        return {name: _cleaned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        cleaned = [_cleaned(one) for one in value]
        return list(dict.fromkeys(cleaned)) if key == "tags" else cleaned
    return HIDDEN.sub("", value) if isinstance(value, str) else value
