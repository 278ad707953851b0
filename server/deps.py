"""What handlers work with: the engine once it is there, the constitutions, the limits.

One `Services` per app, made in `create_app`. Start from `services(request)`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from starlette.requests import HTTPConnection

from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.errors import ContextLengthError, EngineDeadError, NotFoundError
from cai.policy.assignment import LIVE
from cai.settings import Settings
from cai.train.items import Item, Scored
from cai.types import Usage
from server.auth import Keyring
from server.context import request_info
from server.idempotency import IdempotencyStore
from server.limits import Admission
from server.live import LivePolicies
from server.metrics import Metrics
from server.sleeping import Sleeper
from server.stores import Stores
from server.supervisor import Keeper
from server.worker_child import WorkerChild

__all__ = [
    "LIVE",
    "Answerer",
    "RewardModel",
    "Services",
    "answerer_of",
    "check_limit",
    "count",
    "services",
]


Answerer = Callable[[], Engine]


class RewardModel(Protocol):
    """What scores answers: `cai.train.scorer.RewardScorer`, named here so that nothing loads it."""

    @property
    def name(self) -> str:
        """Which model it is."""
        ...

    async def score_async(self, items: Sequence[Item]) -> Scored:
        """One reward per item, in order. Cancelling stops before the next batch."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


@dataclass(slots=True)
class Services:
    """Everything a handler may need."""

    live: LivePolicies
    sleeper: Sleeper
    store: ConstitutionStore
    settings: Settings
    keyring: Keyring | None
    admission: Admission
    idempotency: IdempotencyStore
    metrics: Metrics
    stores: Stores
    opened_judge: Engine | None = None
    why_no_judge: str | None = None
    opened_reward: RewardModel | None = None
    is_engine_up: bool = False
    is_stopping: bool = False
    worker: WorkerChild | None = None
    keepers: list[Keeper] = field(default_factory=list)
    num_watchers: int = 0
    started_at: int = field(default_factory=lambda: int(time.time()))
    first_texts: dict[int, str] = field(default_factory=dict)

    @property
    def opened_engine(self) -> Engine | None:
        """The engine; None while it loads, and while another takes its place."""
        return self.live.current

    def engine(self, model: str | None = None, *, key: str | None = None) -> Engine:
        """The engine as `model` answers, `live` by default; `key` says whose A/B arm that is.

        Raises EngineDeadError while there is none, NotFoundError naming the models there are.
        """
        return self.live.engine(model or LIVE, key=key)

    def judge(self) -> Engine:
        """The engine that scores labels: the judge where there is one."""
        if self.why_no_judge is not None:
            raise EngineDeadError(f"the judge: {self.why_no_judge}")
        return self.opened_judge or self.live.engine(self.live.name)

    async def set_judge(self, judge: Engine) -> None:
        """Another judge took the place of one that died."""
        self.opened_judge, self.why_no_judge = judge, None

    def lose_judge(self, reason: str) -> None:
        """The judge is gone; until there is another nobody judges in its place."""
        self.opened_judge, self.why_no_judge = None, reason

    def reward(self) -> RewardModel:
        """The reward model. Raises NotFoundError where the server has none."""
        if self.opened_reward is not None:
            return self.opened_reward
        if self.settings.reward is not None:
            raise EngineDeadError("the reward model is still loading; GET /readyz tells when")
        raise NotFoundError(
            "this server has no reward model; its operator starts one with cai serve --reward PATH"
        )

    async def constitution(self, ref: str) -> Constitution:
        """A constitution by reference, read in a thread: it stats files, and may read them."""
        return await asyncio.to_thread(self.store.get, ref)


def services(connection: HTTPConnection) -> Services:
    """The app's services."""
    found = connection.app.state.services
    assert isinstance(found, Services), found
    return found


def count(request: HTTPConnection, usage: Usage) -> None:
    """Tell the log and the metrics of tokens that were used."""
    request_info(request).usage += usage
    services(request).metrics.observe_usage(usage)


def answerer_of(request: HTTPConnection, model: str | None, user: str | None = None) -> Answerer:
    """Who answers a request: to be asked when its turn has come, as policies change meanwhile.

    Whose A/B arm it is goes by its user, else by its API key; without both each is drawn anew.
    """
    key = f"key {request_info(request).key_name}" if request_info(request).key_name else None
    return partial(services(request).engine, model, key=f"user {user}" if user else key)


def check_limit(engine: Engine, limit: int | None, field_name: str) -> None:
    """Refuse a token limit that no prompt could leave room for."""
    context = engine.identity().max_context
    if limit is not None and context is not None and limit >= context:
        raise ContextLengthError(
            f"{field_name} is {limit} and the model's context holds {context} tokens with the "
            "prompt; ask for fewer",
            param=field_name,
        )
