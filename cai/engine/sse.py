"""Server-sent events from bytes that come in any pieces.

Only line feeds end a line here: httpx's own line reader also splits at characters such as U+2028,
which may stand inside JSON. Start from `EventDecoder.feed`.
"""

from __future__ import annotations


class EventDecoder:
    """Collects bytes and gives the data of each event that is complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Data of the events that `piece` completes; comments and other fields are left out."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [data for line in lines if (data := self._end_line(line)) is not None]

    def close(self) -> list[bytes]:
        """Data of an event that the stream ended without a blank line after."""
        return self.feed(b"\n\n")

    def _end_line(self, line: bytes) -> bytes | None:
        line = line.removesuffix(b"\r")
        if line.startswith(b"data:"):
            self._data.append(line.removeprefix(b"data:").removeprefix(b" "))
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            return data
        return None
