"""The application: services, routers, and the layers around them. Start from `create_app`.

The engine may come later: while it loads, /healthz answers and everything that needs it is a 503.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from fastapi import FastAPI

from cai import __version__
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.settings import Settings
from server import errors
from server.auth import Keyring
from server.constitution_watch import watched
from server.context import RequestContext
from server.deps import RewardModel, Services
from server.gate import Gate
from server.idempotency import IdempotencyStore
from server.limits import Admission
from server.live import LivePolicies
from server.metrics import Metrics
from server.routes.chat import chat
from server.routes.completions import completions
from server.routes.constitution_drafts import constitution_drafts
from server.routes.constitutions import constitutions
from server.routes.critiques import critiques
from server.routes.docs import docs
from server.routes.feedback import feedback
from server.routes.files import files
from server.routes.internal import internal
from server.routes.jobs import jobs
from server.routes.models import models
from server.routes.operations import operations
from server.routes.policies import policies
from server.routes.policies_live import policies_live
from server.routes.preferences import preferences
from server.routes.review import review
from server.routes.rewards import rewards
from server.routes.traffic import traffic
from server.sleeping import Sleeper
from server.stores import Stores
from server.supervisor import Keeper
from server.worker_child import WorkerChild

logger = logging.getLogger(__name__)

ROUTERS = (
    chat,
    completions,
    models,
    critiques,
    preferences,
    rewards,
    constitution_drafts,
    constitutions,
    policies_live,
    policies,
    traffic,
    feedback,
    review,
    files,
    jobs,
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
    """How the engines come to be while the server already listens; they are closed with it.

    `open_engine` and `open_judge` open another in the place of one that died.
    """

    open: Callable[[], Awaitable[Engines]]
    on_ready: Callable[[Engines], None]
    on_failure: Callable[[Exception], None]
    open_engine: Callable[[], Awaitable[Engine]] | None = None
    open_judge: Callable[[], Awaitable[Engine]] | None = None


def create_app(
    engine: Engine | None,
    store: ConstitutionStore,
    settings: Settings,
    judge: Engine | None = None,
    *,
    reward: RewardModel | None = None,
    opening: Opening | None = None,
    worker: WorkerChild | None = None,
) -> FastAPI:
    """The ASGI application. A given engine stays the caller's to close; an opened one does not.

    A given worker runs for as long as the application does, with a key of its own to it.
    """
    keyring = Keyring.from_file(settings.api_key_file) if settings.api_key_file else None
    service = _services(engine, judge, store, settings, keyring)
    service.opened_reward = reward
    service.worker = worker
    if worker is not None and keyring is not None:
        worker.key = keyring.admit("worker", ("infer", "admin"))
    app = FastAPI(
        title="Constitutional AI service",
        version=__version__,
        lifespan=watched(store, _lifespan(service, opening)),
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
    admission = Admission(max_running=settings.max_running, max_queue=settings.max_queue)
    stores = Stores(settings)
    live = LivePolicies(stores, admission, drain_s=settings.reload_drain_s)
    if engine is not None:
        live.take(engine)
    service = Services(
        live=live,
        sleeper=Sleeper(live, admission, drain_s=settings.reload_drain_s),
        opened_judge=judge,
        store=store,
        settings=settings,
        keyring=keyring,
        admission=admission,
        idempotency=IdempotencyStore(
            ttl_s=settings.idempotency_ttl_s, max_bytes=settings.idempotency_max_bytes
        ),
        metrics=Metrics(),
        stores=stores,
    )
    watch = service.metrics.watch
    watch("cai_requests_running", "Requests at work.", lambda: service.admission.num_running)
    watch("cai_requests_queued", "Requests that wait.", lambda: service.admission.num_queued)
    watch(
        "cai_engine_restarts",
        "Engines opened in the place of one that died.",
        lambda: sum(keeper.num_restarts for keeper in service.keepers),
    )
    watch("cai_engine_up", "1 while the engine answers.", lambda: service.is_engine_up)
    return service


def _lifespan(
    service: Services, opening: Opening | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if opening is None:
            try:
                yield
            finally:
                await asyncio.to_thread(service.stores.close)
            return
        task = asyncio.create_task(_open(service, opening))
        try:
            if service.worker is not None:
                await service.worker.start()
            yield
        finally:
            if service.worker is not None:
                await service.worker.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for opened in (service.opened_judge, service.opened_engine):
                if opened is not None:
                    await opened.aclose()
            if service.opened_reward is not None:
                service.opened_reward.close()
            await asyncio.to_thread(service.stores.close)

    return lifespan


async def _open(service: Services, opening: Opening) -> None:
    """Open the engines, then keep them there until cancelled."""
    try:
        engines = await opening.open()
        service.opened_judge, service.opened_reward = engines.judge, engines.reward
        try:
            await service.live.attach(engines.engine)
        except BaseException:
            await engines.engine.aclose()
            raise
    except Exception as exc:
        opening.on_failure(exc)
        return
    opening.on_ready(engines)
    async with asyncio.TaskGroup() as group:
        for keeper, engine in _keepers(service, opening, engines):
            group.create_task(keeper.keep(engine))


def _keepers(
    service: Services, opening: Opening, engines: Engines
) -> Iterator[tuple[Keeper, Engine]]:
    hang_s = service.settings.hang_timeout_s
    if opening.open_engine is not None:
        live = service.live
        keeper = Keeper(
            opening.open_engine,
            up=live.attach,
            down=live.detach,
            hang_s=hang_s,
            room=service.sleeper.free,
        )
        service.keepers.append(keeper)
        yield keeper, engines.engine
    if opening.open_judge is not None and engines.judge is not None:
        up, down = service.set_judge, service.lose_judge
        keeper = Keeper(opening.open_judge, up=up, down=down, hang_s=hang_s)
        service.keepers.append(keeper)
        yield keeper, engines.judge
