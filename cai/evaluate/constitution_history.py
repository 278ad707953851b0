"""What became of a constitution from release to release, and its CHANGELOG.md made from that.

Start from `history`; `write_changelog` keeps the file beside the releases.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from cai.constitution.diff import ConstitutionDiff, compare
from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.errors import NotFoundError
from cai.evaluate.constitution_text import changelog
from cai.files import replace_text

FILE_NAME = "CHANGELOG.md"


def releases(store: ConstitutionStore, name: str) -> list[Constitution]:
    """Every release, the oldest first. Raises NotFoundError when there is none."""
    found = [
        store.get(f"{name}@{version}") for version in store.versions(name) if version != "draft"
    ]
    if not found:
        raise NotFoundError(
            f"'{name[:100]}' has no release; make one with 'cai constitution release {name[:100]}'",
            param="constitution",
        )
    return found


def history(store: ConstitutionStore, name: str) -> list[ConstitutionDiff]:
    """The steps from each release to the next, the oldest first."""
    return [compare(old, new) for old, new in pairwise(releases(store, name))]


def changelog_text(store: ConstitutionStore, name: str) -> str:
    """The changelog as it should stand in the file."""
    return changelog(name, history(store, name), releases(store, name)[0].ref)


def write_changelog(store: ConstitutionStore, name: str) -> Path:
    """Replace `<name>/CHANGELOG.md` and return its path."""
    path = store.path(name, "draft").with_name(FILE_NAME)
    replace_text(path, changelog_text(store, name))
    return path
