"""What handlers work with: the engine once it is there, the constitutions, the limits.

One `Services` per app, made in `create_app`. Start from `services(request)`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import HTTPConnection

from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.errors import ContextLengthError, EngineDeadError, NotFoundError
from cai.registry import did_you_mean
from cai.settings import Settings
from cai.train.items import Item, Scored
from cai.types import Usage
from server.auth import Keyring
from server.context import request_info
from server.idempotency import IdempotencyStore
from server.limits import Admission
from server.metrics import Metrics

LIVE = "live"


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
    """Everything a handler may need. `opened_engine` is None while it loads."""

    opened_engine: Engine | None
    store: ConstitutionStore
    settings: Settings
    keyring: Keyring | None
    admission: Admission
    idempotency: IdempotencyStore
    metrics: Metrics
    opened_judge: Engine | None = None
    opened_reward: RewardModel | None = None
    is_engine_up: bool = False
    started_at: int = field(default_factory=lambda: int(time.time()))
    first_texts: dict[int, str] = field(default_factory=dict)

    def engine(self, model: str | None = None) -> Engine:
        """The engine behind a model's name. Raises EngineDeadError while there is none."""
        engine = self.opened_engine
        if engine is None:
            raise EngineDeadError("the engine is still loading; GET /readyz tells when it is there")
        if model is not None and model not in (LIVE, served := engine.identity().model):
            known = (LIVE, served)
            raise NotFoundError(
                f"no model '{model[:100]}'{did_you_mean(model[:100], known)}; "
                f"there are: {', '.join(known)}",
                param="model",
            )
        return engine

    def judge(self) -> Engine:
        """The engine that scores labels: the judge where there is one."""
        return self.opened_judge or self.engine()

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


def check_limit(engine: Engine, limit: int | None, field_name: str) -> None:
    """Refuse a token limit that no prompt could leave room for."""
    context = engine.identity().max_context
    if limit is not None and context is not None and limit >= context:
        raise ContextLengthError(
            f"{field_name} is {limit} and the model's context holds {context} tokens with the "
            "prompt; ask for fewer",
            param=field_name,
        )
