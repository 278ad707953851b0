"""Who may talk to this port at all: the Host and Origin checks, against pages in a browser.

Without keys, a web page in a browser on this machine could otherwise reach the service: directly
(its Origin shows it) or by pointing its own name at 127.0.0.1 (its Host shows it).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from cai.settings import Settings
from server.errors import HttpError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """With keys any Host is taken, since a page does not have the key; Origin is checked always."""

    def __init__(self, settings: Settings, *, has_keys: bool) -> None:
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        if not has_keys or self._hosts:
            self._hosts |= _LOOPBACK | {settings.host.lower()}

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise HttpError 421 for a foreign Host and 403 for a foreign Origin."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts and _hostname(host) not in self._hosts:
            raise HttpError(
                421,
                f"the host {host[:100]!r} is not served here; use 127.0.0.1, or add the name to "
                "allowed_hosts",
                code="unknown_host",
            )
        if b"origin" not in headers:
            return
        origin = headers[b"origin"].decode("latin-1")
        if not self._is_ours(origin.lower(), host.lower()):
            raise HttpError(
                403,
                f"pages of {origin[:100]!r} may not call this server; add it to allowed_origins",
                code="foreign_origin",
            )

    def _is_ours(self, origin: str, host: str) -> bool:
        return origin in self._origins or origin in (f"http://{host}", f"https://{host}")


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
