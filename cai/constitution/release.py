"""Freeze a draft as the next release, and begin a draft. The only code here that writes.

The text is edited, never dumped anew, so comments and formatting survive. Start from `release`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from cai.constitution.lock import LOCK_NAME, exclusive, write_lock
from cai.constitution.schema import NAME_PATTERN, Constitution
from cai.constitution.store import ConstitutionStore
from cai.errors import ConflictError, ConstitutionError, NotFoundError
from cai.files import replace_text
from cai.yamlguard import Loaded, load_yaml, load_yaml_file

FIRST_LINE = "# yaml-language-server: $schema=../schema.json"
"""Points editors to the schema that `cai.constitution.editors` writes."""

TEMPLATE = """\
{first_line}
name: {name}
version: draft
title: What this constitution is for, in a few words
composition: sample           # sample | mean | priority | veto
principles:
  - id: no-flattery
    critique: Point out where the answer agrees with the user or praises them without a reason.
    revision: Rewrite the answer so that it says what is true, kindly, and praises nothing.
    compare: Which answer says what is true rather than what the user would like to hear?
    cases:
      - prompt: I think the moon makes its own light. I'm right, am I not?
        better: No. The moon has no light of its own; what we see is reflected sunlight.
        worse: Yes, you are right, the moon makes its own light. What a sharp observation!
"""
EXTENDING = """\
{first_line}
name: {name}
version: draft
title: What this constitution is for, in a few words
extends: {base}
# A principle with the id of one in {base} changes the keys that it sets; others are added.
principles: []
"""


def release(
    store: ConstitutionStore, name: str, *, check: Callable[[], None] | None = None
) -> Constitution:
    """Write `draft.yaml` as the next number, record its digest, and return the release.

    A file without a record, as a crash leaves it, is recorded if it equals the draft. `check` may
    raise to stop it, when nobody else can write any more. Raises ConflictError when the draft says
    nothing new, NotFoundError when there is no draft.
    """
    if "draft" not in store.versions(name):
        raise NotFoundError(
            f"'{name}' has no draft in {store.root}; make one with 'cai constitution new {name}'",
            param="constitution",
        )
    with exclusive(store.root):
        if check is not None:
            check()
        loaded = load_yaml_file(store.path(name, "draft"))
        draft = store.read(loaded)
        numbers = [version for version in store.versions(name) if version != "draft"]
        unrecorded = [n for n in numbers if f"{name}@{n}" not in store.recorded()]
        if unrecorded:
            number = _same_as_draft(store, draft, unrecorded)
        else:
            number = _write_next(store, draft, loaded, max(numbers, default=0))
        write_lock(store.root, {**store.recorded(), f"{name}@{number}": draft.digest})
    return store.get(f"{name}@{number}")


def new_draft(store: ConstitutionStore, name: str, *, extends: str | None = None) -> Path:
    """Begin `draft.yaml`: a copy of the newest release, or an example to edit. Returns its path.

    With `extends` it is a file that adds to that constitution, whatever was released before.
    """
    numbers = [version for version in store.versions(name) if version != "draft"]
    if extends is not None:
        store.base(extends)
        text = _filled(EXTENDING, name=name, base=extends)
    elif numbers:
        newest = store.get(f"{name}@{max(numbers)}")
        text = _with_version(load_yaml_file(store.path(name, newest.version)), "draft")
    else:
        text = _filled(TEMPLATE, name=name)
    return write_new_draft(store, name, text)


def write_new_draft(store: ConstitutionStore, name: str, text: str) -> Path:
    """Write `draft.yaml` where there is none yet. Raises ConflictError where there is."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConstitutionError(
            f"{name[:100]!r} is no name; use up to 64 of a-z, 0-9, '-', '_' and '.'", param="name"
        )
    path = store.path(name, "draft")
    if path.exists():
        raise ConflictError(f"{path} exists; edit it, or delete it to begin anew")
    store.read(load_yaml(text, path=path))
    replace_text(path, text)
    return path


def released_text(store: ConstitutionStore, draft: Loaded, number: int) -> str:
    """The draft's text with its version line changed, and nothing else; proved by parsing it."""
    before = store.read(draft)
    text = _with_version(draft, str(number))
    after = store.read(load_yaml(text, path=store.path(before.name, number)))
    assert after.digest == before.digest, "a release has the digest of its draft"
    assert after.version == number, f"the version line says {after.version}, not {number}"
    return text


def _filled(template: str, **values: str) -> str:
    return template.format(first_line=FIRST_LINE, **values)


def _with_version(loaded: Loaded, version: str) -> str:
    """The text with the value of `version` replaced where it stands."""
    line, column = loaded.position(("version",))
    lines = loaded.text.splitlines(keepends=True)
    head, tail = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
    written = re.escape(str(loaded.data["version"]))
    edited, num_edits = re.subn(rf"\A(['\"]?){written}\1(?=[\s,}}#]|\Z)", version, tail)
    if num_edits != 1:
        raise loaded.fail(
            "the version is not written plainly; write 'version: draft'", ("version",)
        )
    return "".join([*lines[: line - 1], head + edited, *lines[line:]])


def _write_next(store: ConstitutionStore, draft: Constitution, loaded: Loaded, newest: int) -> int:
    """Write the draft as the number after `newest`, unless it says the same; returns the number."""
    if newest and store.get(f"{draft.name}@{newest}").digest == draft.digest:
        raise ConflictError(
            f"{draft.ref} has the content of {draft.name}@{newest}; edit draft.yaml first"
        )
    path = store.path(draft.name, newest + 1)
    replace_text(path, released_text(store, loaded, newest + 1))
    store.wrote(path)
    return newest + 1


def _same_as_draft(store: ConstitutionStore, draft: Constitution, unrecorded: list[int]) -> int:
    """The number among those without a record whose content is the draft's."""
    for number in unrecorded:
        if store.load(draft.name, number).digest == draft.digest:
            return number
    first = f"{draft.name}@{unrecorded[0]}"
    raise ConflictError(
        f"{first} is not recorded in {LOCK_NAME} and differs from draft.yaml; to record it make "
        f"draft.yaml equal to it, else delete {store.path(draft.name, unrecorded[0])}"
    )
