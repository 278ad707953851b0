"""Chunks of a streamed chat or text completion, in OpenAI's shapes."""

from __future__ import annotations

import time
from typing import Any

from cai.types import Chunk, Usage
from server.schemas.replies import chat_logprobs, finish_reason, text_logprobs, usage_json

JSON = dict[str, Any]


class ChunkWriter:
    """Makes the chunks of one stream: they share id, model and time."""

    def __init__(self, id: str, kind: str, *, top_logprobs: int | None, tells_usage: bool) -> None:
        self._head: JSON = {"id": id, "object": kind, "created": int(time.time()), "model": ""}
        self._top = top_logprobs
        self._tail: JSON = {"usage": None} if tells_usage else {}
        self._offsets: dict[int, int] = {}

    def name_policy(self, policy: str) -> None:
        """Set the model that every chunk names."""
        self._head["model"] = policy

    def role(self, index: int) -> JSON:
        """The first chunk of a chat choice."""
        return self._chunk(index, delta={"role": "assistant", "content": ""})

    def chat(self, chunk: Chunk, *, cai: JSON | None = None) -> JSON:
        """A piece of a chat answer; the last one carries `cai`."""
        return self._chunk(
            chunk.index,
            finish_reason(chunk.finish_reason),
            chat_logprobs(chunk.logprobs, top=self._top or 0) if self._top is not None else None,
            cai,
            delta={"content": chunk.text} if chunk.text else {},
        )

    def text(self, chunk: Chunk, *, cai: JSON | None = None) -> JSON:
        """A piece of a text completion; the last one carries `cai`."""
        start = self._offsets.get(chunk.index, 0)
        self._offsets[chunk.index] = start + len(chunk.text)
        logprobs = None
        if self._top is not None:
            logprobs = text_logprobs(chunk.logprobs or (), top=self._top, start=start)
        reason = finish_reason(chunk.finish_reason)
        return self._chunk(chunk.index, reason, logprobs, cai, text=chunk.text)

    def usage(self, usage: Usage) -> JSON:
        """The last chunk, where it was asked for: no choice, only the counts."""
        return {**self._head, "choices": [], "usage": usage_json(usage)}

    def step(self, told: JSON) -> JSON:
        """The data of a step event; shaped as a chunk, so that clients can skip it."""
        return {**self._head, "choices": [], "cai": told}

    def _chunk(
        self,
        index: int,
        reason: str | None = None,
        logprobs: JSON | None = None,
        cai: JSON | None = None,
        **content: Any,
    ) -> JSON:
        choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._head, "choices": [choice], **self._tail}
        if cai is not None:
            chunk["cai"] = cai
        return chunk
