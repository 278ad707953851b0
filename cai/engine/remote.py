"""Any OpenAI-compatible server as an engine, our own included.

Retries with back-off where a repeat can help, bounded concurrency, time-outs that say which limit.
Label scoring uses our server's internal call where the key allows it, else the twenty best
log-probs of the first token. Start from `RemoteEngine.connect(address)`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx2

from cai.engine import remote_wire as wire
from cai.engine.remote_calls import Caller
from cai.engine.sse import EventDecoder
from cai.errors import (
    CaiError,
    ConfigError,
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    InputError,
    NotFoundError,
    OverloadedError,
    UnsupportedError,
)
from cai.types import (
    ChatPrompt,
    Chunk,
    EngineIdentity,
    Generation,
    LabelScores,
    Prompt,
    Sampling,
    TokenLogprob,
    TokenPrompt,
    Usage,
)

_CHECK_TIMEOUT_S = 10.0
_TOP_FOR_LABELS = 20  # the most that OpenAI's API gives


class RemoteEngine:
    """Speaks to one model of one server. Made by `connect`."""

    def __init__(
        self, caller: Caller, model: str, identity: EngineIdentity, *, has_internal: bool
    ) -> None:
        self._caller = caller
        self._model = model
        self._identity = identity
        self._has_internal = has_internal

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        api_key: str | None = None,
        max_concurrency: int = 256,
        max_attempts: int = 5,
        timeout_s: float = 600.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> RemoteEngine:
        """`http(s)://host:port/v1#model`; without a model, the server's first one.

        The key is `api_key` or the environment's OPENAI_API_KEY. Raises ConfigError when the
        server has no such model, EngineDeadError when it cannot be reached.
        """
        base, _, model = address.partition("#")
        caller = Caller(
            base,
            api_key=_key(api_key),
            max_concurrency=max_concurrency,
            max_attempts=max_attempts,
            timeout_s=timeout_s,
            transport=transport,
        )
        try:
            entry = await _find_model(caller, model)
            chosen = str(entry["id"])
            internal = await _internal_identity(caller, chosen)
        except BaseException:
            await caller.aclose()
            raise
        identity = internal or _foreign_identity(entry, f"{caller.base}#{chosen}")
        return cls(caller, chosen, identity, has_internal=internal is not None)

    def identity(self) -> EngineIdentity:
        return self._identity

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        if isinstance(prompt, TokenPrompt) and self._has_internal:
            body = wire.internal_body(prompt, sampling)
            answer = await self._caller.post("../internal/generate", body)
            return wire.read_internal(answer, sampling)
        path, body = self._request(prompt, sampling)
        answer = await self._caller.post(path, body)
        return wire.read_generation(answer, sampling, default_policy=self._identity.model)

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        path, body = self._request(prompt, sampling)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with (
            self._caller.open_stream(path, body) as pieces,
            aclosing(self._chunks(pieces, sampling)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        if not labels:
            raise InputError("there are no labels to score", param="labels")
        if self._has_internal:
            body = wire.score_body(prompt, labels)
            return wire.read_scores(await self._caller.post("../internal/score", body), labels)
        sampling = Sampling(max_tokens=1, temperature=0.0, logprobs=_TOP_FOR_LABELS)
        return wire.labels_from_top(await self.generate(prompt, sampling), labels)

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        if isinstance(prompt, ChatPrompt):
            raise UnsupportedError("log-probs of a chat prompt need token ids or text")
        path, body = self._request(prompt, Sampling(max_tokens=1, temperature=0.0, logprobs=top))
        return wire.read_echo(await self._caller.post(path, body | {"echo": True}))

    async def count_tokens(self, prompt: Prompt) -> int:
        if isinstance(prompt, TokenPrompt):
            return len(prompt.ids)
        raise UnsupportedError("a remote engine does not count tokens without generating")

    async def check(self) -> None:
        await self._caller.get("models", timeout_s=_CHECK_TIMEOUT_S)

    async def aclose(self) -> None:
        await self._caller.aclose()

    def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self._model} | wire.sampling_fields(sampling)
        if isinstance(prompt, ChatPrompt):
            body["messages"] = [message.as_dict() for message in prompt.messages]
            if sampling.logprobs is not None:
                body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
            return "chat/completions", body
        if sampling.max_tokens is None:
            raise UnsupportedError(
                "a server gives 16 tokens after a plain text when no limit is sent; set max_tokens",
                param="max_tokens",
            )
        body["prompt"] = list(prompt.ids) if isinstance(prompt, TokenPrompt) else prompt.text
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        return "completions", body

    async def _chunks(
        self, pieces: AsyncIterator[bytes], sampling: Sampling
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks of a server-sent stream; the usage, which comes last, goes onto the last one."""
        last: Chunk | None = None
        usage = Usage()
        extension: Mapping[str, Any] = {}
        finished: set[int] = set()
        async with aclosing(_events(pieces)) as events:
            async for value in events:
                usage = wire.read_usage(value.get("usage")) or usage
                extension = wire.extension_of(value) or extension
                policy = value.get("model") if self._has_internal else None
                for chunk in wire.read_chunks(value, policy=str(policy or self._identity.model)):
                    if last is not None:
                        yield last
                    last = chunk if chunk.finish_reason else None
                    if last is None:
                        yield chunk
                    else:
                        finished.add(chunk.index)
        if len(finished) < sampling.n:
            raise EngineError("the server ended the stream before the answer was whole")
        honoured = wire.seed_honoured(extension, sampling)
        yield replace(last or Chunk(0, ""), usage=usage, seed_honoured=honoured)


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Mapping[str, Any], None]:
    """The JSON of each event up to [DONE] or the end."""
    decoder = EventDecoder()
    async for piece in pieces:
        for data in decoder.feed(piece):
            if data.strip() == b"[DONE]":
                return
            yield wire.read_event(data)
    for data in decoder.close():
        if data.strip() != b"[DONE]":
            yield wire.read_event(data)


async def policy_address(
    address: str, *, transport: httpx2.AsyncBaseTransport | None = None
) -> str:
    """The address of the policy that our own server's `live` stands for now; any other as given.

    Raises as `RemoteEngine.connect`.
    """
    base, _, model = address.partition("#")
    caller = Caller(
        base,
        api_key=_key(None),
        max_concurrency=1,
        max_attempts=1,
        timeout_s=_CHECK_TIMEOUT_S,
        transport=transport,
    )
    try:
        entry = await _find_model(caller, model)
    finally:
        await caller.aclose()
    policy = wire.policy_of(entry)
    return address if policy is None else f"{base}#{policy}"


def _key(given: str | None) -> str | None:
    return (given or os.environ.get("OPENAI_API_KEY", "")).strip() or None


async def _find_model(caller: Caller, model: str) -> Mapping[str, Any]:
    try:
        entries = wire.model_entries(await caller.get("models"), caller.base)
    except NotFoundError as exc:
        raise ConfigError(
            f"{caller.base} has no list of models; an address mostly ends in /v1 ({exc})"
        ) from exc
    by_name = {str(entry["id"]): entry for entry in entries}
    chosen = model or next(iter(by_name), "")
    if chosen not in by_name:
        names = ", ".join(list(by_name)[:20]) or "none"
        raise ConfigError(f"{caller.base} has no model '{chosen}'; it has: {names}")
    return by_name[chosen]


async def _internal_identity(caller: Caller, model: str) -> EngineIdentity | None:
    """Of a model of our own server, where the key opens it; None for any other server.

    A server that is away just now is neither: taken for another, its run could not be resumed.
    """
    try:
        path = f"../internal/identity?model={quote(model, safe='')}"
        found = await caller.get(path, timeout_s=_CHECK_TIMEOUT_S)
        return wire.identity_from(found, f"{caller.base}#{model}")
    except (EngineDeadError, EngineTimeoutError, OverloadedError):
        raise
    except CaiError:
        return None


def _foreign_identity(entry: Mapping[str, Any], address: str) -> EngineIdentity:
    limit = entry.get("max_model_len")
    return EngineIdentity(
        engine="openai-compatible",
        version="v1",
        device="remote",
        model=address,
        max_context=limit if isinstance(limit, int) else None,
    )
