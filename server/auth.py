"""API keys: made once, kept as salted HMACs, compared in constant time, with a scope per route.

The file is a YAML list of `{name, hash, scopes}`. `admin` includes the other scopes. Start from
`Keyring.from_file` and `authorise`; `add_key` makes a key and appends its entry.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel
from starlette.requests import Request

from cai.errors import ConfigError, ConflictError
from cai.files import replace_text
from cai.yamlguard import Loaded, config_error, load_yaml, load_yaml_file, validate
from server.context import request_info
from server.errors import HttpError

Scope = Literal["infer", "review", "train", "admin"]
Access = Scope | Literal["open", "any"]

SCOPES: tuple[Scope, ...] = ("infer", "review", "train", "admin")
_HASH = re.compile(r"hmac-sha256:([0-9a-f]{32}):([0-9a-f]{64})")
_MAX_KEY_CHARS = 256


class KeyEntry(BaseModel):
    """One key, as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    hash: str = Field(pattern=r"^hmac-sha256:[0-9a-f]{32}:[0-9a-f]{64}$")
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]

    def matches(self, key: str) -> bool:
        """Whether `key` is the one; takes the same time whatever it is."""
        found = _HASH.fullmatch(self.hash)
        assert found is not None, "the pattern was checked"
        return hmac.compare_digest(_digest(bytes.fromhex(found[1]), key), found[2])

    def allows(self, access: Access) -> bool:
        """Whether the key opens routes of this access."""
        return access == "any" or access in self.scopes or "admin" in self.scopes


class _KeyFile(RootModel[tuple[KeyEntry, ...]]):
    """The file as a whole."""


class Keyring:
    """The keys that a server knows."""

    def __init__(self, entries: Sequence[KeyEntry]) -> None:
        self._entries = tuple(entries)

    @classmethod
    def from_file(cls, path: Path) -> Keyring:
        """Raises ConfigError, with the line, for a file that is not a list of keys."""
        entries = _entries(load_yaml_file(path, error=config_error))
        if not entries:
            raise ConfigError(
                f"{path}: the file has no key; make one with 'cai serve --api-key-file {path} "
                "--new-key NAME'"
            )
        return cls(entries)

    def admit(self, name: str, scopes: tuple[Scope, ...]) -> str:
        """A new key that is in no file and ends with this process: for a child of its own."""
        key, salt = _new_key()
        self._entries += (KeyEntry(name=name, hash=_hash_of(salt, key), scopes=scopes),)
        return key

    def find(self, key: str) -> KeyEntry | None:
        """The entry of a presented key. Every entry is compared, so time tells nothing."""
        if len(key) > _MAX_KEY_CHARS:
            return None
        found = None
        for entry in self._entries:
            if entry.matches(key):
                found = entry
        return found


def add_key(path: Path, name: str, scopes: Sequence[Scope]) -> str:
    """A new random key, whose entry is appended to `path`; the key itself is kept nowhere."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if any(entry.name == name for entry in _entries(_load(text, path))):
        raise ConflictError(f"{path} already has a key named '{name}'; use another name")
    key, salt = _new_key()
    entry = f"- name: {name}\n  hash: {_hash_of(salt, key)}\n  scopes: [{', '.join(scopes)}]\n"
    grown = text + ("\n" if text and not text.endswith("\n") else "") + entry
    _entries(_load(grown, path))
    replace_text(path, grown)
    path.chmod(0o600)
    return key


def authorise(request: Request, access: Access, keyring: Keyring | None) -> None:
    """Raise HttpError 401 or 403 unless the request may use a route of this access.

    Without keys everything is open to who reaches the port, which is this machine, and the admin
    routes only to requests that come from it without a proxy between.
    """
    if access == "open":
        return
    if keyring is None:
        if access == "admin" and not _is_local(request):
            raise _forbidden("this call is for this machine only; start with --api-key-file")
        return
    given = request_info(request).headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, key = given.partition(" ")
    entry = keyring.find(key.strip()) if scheme.lower() == "bearer" else None
    if entry is None:
        raise HttpError(
            401,
            "a valid key is needed: send 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
    request_info(request).key_name = entry.name
    if not entry.allows(access):
        has = ", ".join(entry.scopes)
        raise _forbidden(f"the key '{entry.name}' has the scopes {has}; this call needs {access}")


def _entries(loaded: Loaded) -> tuple[KeyEntry, ...]:
    if loaded.data is None:
        return ()
    entries = validate(_KeyFile, loaded).root
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise loaded.fail(f"two keys are named '{name}'; rename one", (index, "name"))
    return entries


def _load(text: str, path: Path) -> Loaded:
    return load_yaml(text, path=path, error=config_error)


def _new_key() -> tuple[str, bytes]:
    """A random key, and a salt for its hash."""
    return "cai-" + secrets.token_urlsafe(32), secrets.token_bytes(16)


def _hash_of(salt: bytes, key: str) -> str:
    return f"hmac-sha256:{salt.hex()}:{_digest(salt, key)}"


def _digest(salt: bytes, key: str) -> str:
    return hmac.digest(salt, key.encode("utf-8", "surrogatepass"), "sha256").hex()


def _forbidden(message: str) -> HttpError:
    return HttpError(403, message, code="forbidden")


def _is_local(request: Request) -> bool:
    headers = request_info(request).headers
    if request.client is None or b"x-forwarded-for" in headers or b"forwarded" in headers:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
