"""A raw server on a loopback port, for what a mock transport cannot do: resets, silence, pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Script = Callable[["Exchange"], Awaitable[None]]

MODELS = {"data": [{"id": "m", "max_model_len": 4096}, {"id": "other"}]}


@dataclass
class Exchange:
    """One request that came in, and the connection to answer on."""

    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, value: Any, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    async def begin_stream(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def piece(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Cut the connection without an answer."""
        self.writer.transport.abort()

    async def client_left(self) -> None:
        """Wait until the client closes the connection."""
        assert await self.reader.read(1) == b""


@dataclass
class Loopback:
    """Answers model lists itself, and everything else with the next script (the last for ever)."""

    scripts: list[Script]
    exchanges: list[Exchange] = field(default_factory=list)
    num_open: int = 0
    most_open: int = 0
    address: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while exchange := await _read(reader, writer):
                await self._answer(exchange)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/v1/models":
            await exchange.answer(200, MODELS)
        elif exchange.path.startswith("/internal"):
            await exchange.answer(404, {"error": {"message": "no such route"}})
        else:
            self.exchanges.append(exchange)
            script = self.scripts[min(len(self.exchanges), len(self.scripts)) - 1]
            self.num_open += 1
            self.most_open = max(self.most_open, self.num_open)
            try:
                await script(exchange)
            finally:
                self.num_open -= 1


@asynccontextmanager
async def loopback(*scripts: Script) -> AsyncIterator[Loopback]:
    """A server that runs `scripts` for the requests in their order."""
    server = Loopback(list(scripts))
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server.address = f"http://127.0.0.1:{port}/v1#m"
    try:
        yield server
    finally:
        listening.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    headers = {name.lower(): text for name, text in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(first.split()[1], headers, body, reader, writer)
