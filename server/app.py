"""The application: services, routers, and the layers around them. Start from `create_app`.

The engine may come later: while it loads, /healthz answers and everything that needs it is a 503.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from fastapi import FastAPI

from cai import __version__
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.settings import Settings
from server import errors
from server.auth import Keyring
from server.context import RequestContext
from server.deps import RewardModel, Services
from server.gate import Gate
from server.idempotency import IdempotencyStore
from server.limits import Admission
from server.metrics import Metrics
from server.routes.chat import chat
from server.routes.completions import completions
from server.routes.constitutions import constitutions
from server.routes.critiques import critiques
from server.routes.docs import docs
from server.routes.internal import internal
from server.routes.models import models
from server.routes.operations import operations
from server.routes.preferences import preferences
from server.routes.rewards import rewards

logger = logging.getLogger(__name__)

ROUTERS = (
    chat,
    completions,
    models,
    critiques,
    preferences,
    rewards,
    constitutions,
    internal,
    operations,
    docs,
)


class Engines(NamedTuple):
    """What answers, what judges where that is another, and what scores where there is one."""

    engine: Engine
    judge: Engine | None = None
    reward: RewardModel | None = None


class Opening(NamedTuple):
    """How the engines come to be while the server already listens; they are closed with it."""

    open: Callable[[], Awaitable[Engines]]
    on_ready: Callable[[Engines], None]
    on_failure: Callable[[Exception], None]


def create_app(
    engine: Engine | None,
    store: ConstitutionStore,
    settings: Settings,
    judge: Engine | None = None,
    *,
    reward: RewardModel | None = None,
    opening: Opening | None = None,
) -> FastAPI:
    """The ASGI application. A given engine stays the caller's to close; an opened one does not."""
    keyring = Keyring.from_file(settings.api_key_file) if settings.api_key_file else None
    service = _services(engine, judge, store, settings, keyring)
    service.opened_reward = reward
    app = FastAPI(
        title="Constitutional AI service",
        version=__version__,
        lifespan=_lifespan(service, opening),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.router.redirect_slashes = False
    app.state.services = service
    for router in ROUTERS:
        app.include_router(router)
    errors.install(app)
    gate = Gate(settings, has_keys=keyring is not None)
    app.add_middleware(RequestContext, gate=gate, metrics=service.metrics)
    return app


def _services(
    engine: Engine | None,
    judge: Engine | None,
    store: ConstitutionStore,
    settings: Settings,
    keyring: Keyring | None,
) -> Services:
    service = Services(
        opened_engine=engine,
        opened_judge=judge,
        store=store,
        settings=settings,
        keyring=keyring,
        admission=Admission(max_running=settings.max_running, max_queue=settings.max_queue),
        idempotency=IdempotencyStore(
            ttl_s=settings.idempotency_ttl_s, max_bytes=settings.idempotency_max_bytes
        ),
        metrics=Metrics(),
    )
    watch = service.metrics.watch
    watch("cai_requests_running", "Requests at work.", lambda: service.admission.num_running)
    watch("cai_requests_queued", "Requests that wait.", lambda: service.admission.num_queued)
    watch("cai_engine_up", "1 while the engine answers.", lambda: service.is_engine_up)
    return service


def _lifespan(
    service: Services, opening: Opening | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if opening is None:
            yield
            return
        task = asyncio.create_task(_open(service, opening))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for opened in (service.opened_judge, service.opened_engine):
                if opened is not None:
                    await opened.aclose()
            if service.opened_reward is not None:
                service.opened_reward.close()

    return lifespan


async def _open(service: Services, opening: Opening) -> None:
    try:
        engines = await opening.open()
    except Exception as exc:
        opening.on_failure(exc)
        return
    service.opened_engine, service.opened_judge, service.opened_reward = engines
    opening.on_ready(engines)
