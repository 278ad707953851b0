"""Rewards from a server: ours, or any that takes `{"query": [...]}` and gives `{"rewards": [...]}`.

Bounded, repeated where that can help, with a limit in seconds; an answer that is not one finite
number per item is refused, never filled in. Start from `RemoteReward(url).score(items)`.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cai.engine.remote_calls import Caller
from cai.errors import ConfigError, EngineError
from cai.train.items import Answered, RenderedText

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "REWARD_API_KEY"
"""The environment's name for the key: one of its own, so that no other goes to strangers."""

_PATH = "v1/rewards"

RemoteItem = RenderedText | Answered


class RemoteReward:
    """A reward model behind an address. Safe for many calls at once on one event loop."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        batch_size: int = 128,
        max_concurrency: int = 4,
        max_attempts: int = 5,
        timeout_s: float = 180.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`url` is the call's own address; of `http://host:port` alone, its `/v1/rewards`.

        The key is `api_key` or the environment's REWARD_API_KEY. `timeout_s` is for one call of
        `batch_size` items at most.
        """
        base, self._path = _address(url)
        self._batch_size = batch_size
        self._caller = Caller(
            base,
            api_key=(api_key or os.environ.get(KEY_VARIABLE, "")).strip() or None,
            max_concurrency=max_concurrency,
            max_attempts=max_attempts,
            timeout_s=timeout_s,
            key_variable=KEY_VARIABLE,
            transport=transport,
        )

    @property
    def name(self) -> str:
        """The address, without a name and password in it."""
        return f"{self._caller.base}/{self._path}"

    async def score(self, items: Sequence[RemoteItem]) -> list[float]:
        """One reward per item, in order.

        Rendered texts go as `query` (with `prompts` where they all have them), which every remote
        reward model takes; answered conversations as `messages`, which ours takes.
        Raises EngineError for an answer that is no list of that many finite numbers, ConfigError
        where the key will not do.
        """
        starts = range(0, len(items), self._batch_size)
        batches = [items[start : start + self._batch_size] for start in starts]
        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(self._score(batch)) for batch in batches]
        except ExceptionGroup as failed:  # one reason says it all, and the rest were cancelled
            raise failed.exceptions[0] from failed
        return [reward for task in asked for reward in task.result()]

    async def aclose(self) -> None:
        """Close the connections. Repeated calls do nothing."""
        await self._caller.aclose()

    async def _score(self, items: Sequence[RemoteItem]) -> list[float]:
        answer = await self._caller.post(self._path, _body(items))
        return read_rewards(answer, len(items), origin=self.name)


def read_rewards(answer: Any, num_items: int, *, origin: str) -> list[float]:
    """The rewards in a server's answer. Raises EngineError unless each item has a finite one."""
    rewards = answer.get("rewards") if isinstance(answer, Mapping) else None
    if not isinstance(rewards, list):
        raise EngineError(f"{origin}: the answer has no list 'rewards'; is it a reward model's?")
    if len(rewards) != num_items:
        raise EngineError(f"{origin}: {len(rewards)} rewards for {num_items} items")
    for index, reward in enumerate(rewards):
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise EngineError(f"{origin}: rewards[{index}] is no number: {str(reward)[:50]!r}")
        if not math.isfinite(reward):
            raise EngineError(f"{origin}: rewards[{index}] is {reward}; a reward must be finite")
    return [float(reward) for reward in rewards]


def _body(items: Sequence[RemoteItem]) -> dict[str, Any]:
    rendered = [item for item in items if isinstance(item, RenderedText)]
    if not rendered:
        return {"messages": [_messages(item) for item in items if isinstance(item, Answered)]}
    if len(rendered) < len(items):
        raise ConfigError("a call takes rendered texts or conversations, not both")
    body: dict[str, Any] = {"query": [item.text for item in rendered]}
    prompts = [item.prompt for item in rendered]
    if None not in prompts:
        body["prompts"] = prompts
    return body


def _messages(item: Answered) -> list[dict[str, str]]:
    said = [message.as_dict() for message in item.prompt]
    return [*said, {"role": "assistant", "content": item.answer}]


def _address(url: str) -> tuple[str, str]:
    """Base and path of the call."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"'{url[:200]}' is no address of a reward model; write http://host:port/v1/rewards"
        )
    path = parts.path.strip("/") or _PATH
    folder, _, name = path.rpartition("/")
    return urlunsplit(parts._replace(path=f"/{folder}" if folder else "")), name
