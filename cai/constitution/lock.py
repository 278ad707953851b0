"""`releases.lock`: the digest of every release, beside the constitutions and under version control.

Start from `read_lock`; `exclusive` keeps two writers apart.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cai.errors import ConstitutionError
from cai.files import replace_json

LOCK_NAME = "releases.lock"
MAX_BYTES = 4_000_000

_REF = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,8}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WAY_OUT = "restore it from version control"


def read_lock(root: Path) -> dict[str, str]:
    """Digests by reference; empty when there is no lock. Raises ConstitutionError."""
    path = root / LOCK_NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConstitutionError(f"has more than {MAX_BYTES:,} bytes; {_WAY_OUT}", path=path)
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as exc:
        raise ConstitutionError(
            f"is not JSON ({exc.msg}); {_WAY_OUT}", path=path, line=exc.lineno, column=exc.colno
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as exc:
        raise ConstitutionError(f"cannot be read: {exc}; {_WAY_OUT}", path=path) from None
    return _checked(content, path)


def write_lock(root: Path, releases: Mapping[str, str]) -> None:
    """Replace the lock as a whole, its entries by name and number."""
    ordered = dict(sorted(releases.items(), key=lambda entry: _order(entry[0])))
    replace_json(root / LOCK_NAME, {"format": 1, "releases": ordered})


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Keep other processes out while releases are written. Waits; a dead holder holds nothing."""
    # The folder itself is locked: the lock file is replaced by renames, and its lock with it.
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _checked(content: Any, path: Path) -> dict[str, str]:
    if not isinstance(content, dict) or content.get("format") != 1:
        raise ConstitutionError(f"does not begin with format 1; {_WAY_OUT}", path=path)
    releases = content.get("releases")
    if not isinstance(releases, dict):
        raise ConstitutionError(f"has no releases; {_WAY_OUT}", path=path)
    for ref, digest in releases.items():
        if not (_REF.fullmatch(ref) and isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise ConstitutionError(
                f"records {digest!r:.100} for {ref!r:.100}, which is not a release and its digest; "
                f"{_WAY_OUT}",
                path=path,
            )
    return releases


def _order(ref: str) -> tuple[str, int]:
    name, _, version = ref.partition("@")
    return name, int(version)
