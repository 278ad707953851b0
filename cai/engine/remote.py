"""Any OpenAI-compatible server as an engine, our own included.

Retries with back-off where a repeat can help, bounded concurrency, time-outs that say which limit.
Label scoring uses our server's internal call where the key allows it, else the twenty best
log-probs of the first token. Start from `RemoteEngine.connect(address)`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx2

from cai.engine import remote_wire as wire
from cai.errors import (
    CaiError,
    ConfigError,
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
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

_RETRIED = {408, 429, 500, 502, 503, 504}


class RemoteEngine:
    """Speaks to one model of one server. Made by `connect`."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        identity: EngineIdentity,
        *,
        has_internal: bool,
        max_concurrency: int,
        max_attempts: int,
    ) -> None:
        self._client = client
        self._identity = identity
        self._has_internal = has_internal
        self._slots = asyncio.Semaphore(max_concurrency)
        self._max_attempts = max_attempts

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
        key = api_key or os.environ.get("OPENAI_API_KEY")
        client = httpx2.AsyncClient(
            base_url=base.rstrip("/") + "/",
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout_s, connect=10.0),
            limits=httpx2.Limits(
                max_connections=max_concurrency, max_keepalive_connections=max_concurrency
            ),
            transport=transport,
        )
        try:
            identity, has_internal = await _find_model(client, base, model)
        except BaseException:
            await client.aclose()
            raise
        return cls(
            client,
            identity,
            has_internal=has_internal,
            max_concurrency=max_concurrency,
            max_attempts=max_attempts,
        )

    def identity(self) -> EngineIdentity:
        return self._identity

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        if isinstance(prompt, TokenPrompt) and self._has_internal:
            body = wire.internal_body(prompt, sampling)
            return wire.read_internal(await self._post("../internal/generate", body), sampling)
        path, body = self._request(prompt, sampling)
        answer = await self._post(path, body)
        return wire.read_generation(answer, sampling, default_policy=self._identity.model)

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        path, body = self._request(prompt, sampling)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._slots:
            try:
                async with self._client.stream("POST", path, json=body) as response:
                    if response.status_code != 200:
                        await response.aread()
                        raise wire.error_from(response)
                    async for chunk in _chunks(response):
                        yield chunk
            except httpx2.TimeoutException as exc:
                raise EngineTimeoutError(f"the server did not answer in time: {exc}") from exc
            except httpx2.TransportError as exc:
                raise EngineDeadError(f"lost the connection to the server: {exc}") from exc

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        if self._has_internal:
            body = wire.score_body(prompt, labels)
            return wire.read_scores(await self._post("../internal/score", body))
        sampling = Sampling(max_tokens=1, temperature=0.0, logprobs=20)
        generation = await self.generate(prompt, sampling)
        return _labels_from_top(generation, labels)

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        if isinstance(prompt, ChatPrompt):
            raise UnsupportedError("log-probs of a chat prompt need token ids or text")
        path, body = self._request(prompt, Sampling(max_tokens=1, temperature=0.0, logprobs=top))
        answer = await self._post(path, body | {"echo": True})
        return wire.read_echo(answer)

    async def count_tokens(self, prompt: Prompt) -> int:
        if isinstance(prompt, TokenPrompt):
            return len(prompt.ids)
        raise UnsupportedError("a remote engine does not count tokens without generating")

    async def check(self) -> None:
        try:
            response = await self._client.get("models")
        except httpx2.HTTPError as exc:
            raise EngineDeadError(f"{self._client.base_url} cannot be reached: {exc}") from exc
        if response.status_code != 200:
            raise wire.error_from(response)

    async def aclose(self) -> None:
        await self._client.aclose()

    def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self._identity.model.rpartition("#")[2]}
        body |= wire.sampling_fields(sampling)
        if isinstance(prompt, ChatPrompt):
            body["messages"] = [message.as_dict() for message in prompt.messages]
            if sampling.logprobs is not None:
                body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
            return "chat/completions", body
        body["prompt"] = list(prompt.ids) if isinstance(prompt, TokenPrompt) else prompt.text
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        return "completions", body

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode(
            "utf-8", "surrogatepass"
        )
        async with self._slots:
            for attempt in range(1, self._max_attempts + 1):
                error, retry_after_s = await self._attempt(path, content)
                if not isinstance(error, CaiError):
                    return error
                if retry_after_s is None or attempt == self._max_attempts:
                    raise error
                await asyncio.sleep(max(retry_after_s, _backoff_s(attempt)))
        raise AssertionError("the loop returns or raises")

    async def _attempt(self, path: str, content: bytes) -> tuple[CaiError | Any, float | None]:
        """The answer's JSON, or an error and the seconds after which a repeat may help."""
        try:
            response = await self._client.post(
                path, content=content, headers={"content-type": "application/json"}
            )
        except httpx2.ReadTimeout as exc:
            return EngineTimeoutError(f"the server did not answer in time: {exc}"), None
        except httpx2.TransportError as exc:
            reason = f"{self._client.base_url} cannot be reached: {type(exc).__name__}: {exc}"
            return EngineDeadError(reason), 0.0
        if response.status_code == 200:
            try:
                return response.json(), None
            except ValueError as exc:
                return EngineError(f"the server's answer is not JSON: {exc}"), 0.0
        error = wire.error_from(response)
        if response.status_code in _RETRIED:
            return error, wire.retry_after_s(response)
        return error, None


async def _find_model(
    client: httpx2.AsyncClient, base: str, model: str
) -> tuple[EngineIdentity, bool]:
    try:
        response = await client.get("models")
    except httpx2.HTTPError as exc:
        raise EngineDeadError(f"{base} cannot be reached: {type(exc).__name__}: {exc}") from exc
    if response.status_code != 200:
        raise wire.error_from(response)
    entries = wire.model_entries(response)
    names = [str(entry["id"]) for entry in entries]
    chosen = model or (names[0] if names else "")
    if chosen not in names:
        raise ConfigError(f"{base} has no model '{chosen}'; it has: {', '.join(names) or 'none'}")
    internal = await client.get("../internal/identity")
    if internal.status_code == 200:
        return wire.identity_from(internal.json(), f"{base}#{chosen}"), True
    limit = entries[names.index(chosen)].get("max_model_len")
    identity = EngineIdentity(
        engine="openai-compatible",
        version="v1",
        device="remote",
        model=f"{base}#{chosen}",
        max_context=limit if isinstance(limit, int) else None,
    )
    return identity, False


async def _chunks(response: httpx2.Response) -> AsyncGenerator[Chunk, None]:
    """Chunks of a server-sent stream, the usage moved onto the last one that has text."""
    held: Chunk | None = None
    usage: Usage | None = None
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            break
        value = json.loads(data)
        if "error" in value:
            raise wire.error_from_body(value, status=500)
        usage = wire.read_usage(value.get("usage")) or usage
        for chunk in wire.read_chunks(value):
            if held is not None:
                yield held
            held = chunk
    if held is not None:
        yield wire.with_usage(held, usage or Usage())


def _labels_from_top(generation: Generation, labels: Sequence[str]) -> LabelScores:
    places = generation.completions[0].logprobs
    if not places:
        raise UnsupportedError("the server gives no log-probs, so it cannot judge")
    found: dict[str, float] = {}
    for _, text, logprob in places[0].top:
        found.setdefault(text.strip(), logprob)
    # A label below the twenty best has at most the least of them; -inf says so honestly.
    logprobs = {label: found.get(label, -math.inf) for label in labels}
    mass = math.fsum(math.exp(value) for value in logprobs.values())
    return LabelScores(logprobs, mass, generation.usage, generation.policy)


def _backoff_s(attempt: int) -> float:
    return min(8.0, 0.25 * 2.0**attempt) * random.uniform(0.5, 1.0)
