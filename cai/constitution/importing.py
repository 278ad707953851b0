"""A constitution in another form becomes a draft of ours, with where it came from written in it.

Start from `import_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.forms.table import parsed
from cai.constitution.release import FIRST_LINE, write_new_draft
from cai.constitution.store import ConstitutionStore
from cai.errors import ConstitutionError
from cai.files import digest_bytes
from cai.yamlguard import dump_yaml

MAX_FILE_BYTES = 4_000_000


class Imported(NamedTuple):
    """The draft's file, the form that was read, and what came out of it."""

    path: Path
    form: str
    num_principles: int
    num_cases: int


def import_file(
    store: ConstitutionStore,
    file: Path,
    *,
    name: str,
    form: str | None = None,
    title: str | None = None,
    note: str | None = None,
) -> Imported:
    """Write `name`'s draft from a file; without `form` it is told by the content.

    Raises ConstitutionError naming the file when it cannot be read so, ConflictError when there
    is a draft already.
    """
    data = _read(file)
    try:
        found, content = parsed(_text(data, file), file, form)
        path = write_new_draft(
            store, name, _draft(name, content, _provenance(file, data, found, note), title)
        )
    except ConstitutionError as exc:
        if exc.path is not None or exc.param is not None:
            raise
        raise ConstitutionError(exc.reason, path=file) from None
    principles = content["principles"]
    return Imported(
        path, found, len(principles), sum(len(one.get("cases", ())) for one in principles)
    )


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConstitutionError(
                f"has more than {MAX_FILE_BYTES // 1_000_000} MB; name a smaller file", path=file
            )
        return file.read_bytes()
    except OSError as exc:
        raise ConstitutionError(f"cannot be read: {exc.strerror or exc}", path=file) from None


def _text(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConstitutionError(
            f"byte {exc.start} is not UTF-8; save it as UTF-8", path=file
        ) from None


def _provenance(file: Path, data: bytes, form: str, note: str | None) -> dict[str, Any]:
    provenance = {"format": form, "file": file.name, "digest": digest_bytes(data)}
    return provenance if note is None else {**provenance, "note": note}


def _draft(
    name: str, content: dict[str, Any], provenance: dict[str, Any], title: str | None
) -> str:
    principles = _with_own_ids(content["principles"])
    head = {
        "name": name,
        "version": "draft",
        "title": title or content["title"],
        "provenance": provenance,
    }
    rest = {key: value for key, value in content.items() if key not in (*head, "principles")}
    whole = {**head, **rest, "principles": principles}
    return f"{FIRST_LINE}\n" + dump_yaml({key: one for key, one in whole.items() if one != []})


def _with_own_ids(principles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The principles, those whose ids would be the same told apart by a number."""
    seen: dict[str, int] = {}
    told = []
    for one in principles:
        seen[one["id"]] = number = seen.get(one["id"], 0) + 1
        told.append(one if number == 1 else {**one, "id": f"{one['id'][:60]}-{number}"})
    return told
