"""`/healthz`, `/readyz` and `/metrics`: for whoever runs the service."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from cai.errors import EngineDeadError, EngineError
from server.deps import Services, services
from server.routes.table import router
from server.schemas.replies import json_response

operations = router("operations")

_CHECK_TIMEOUT_S = 5.0


@operations.get("/healthz")
async def healthz(request: Request) -> Response:
    """The process answers, whatever the engine does."""
    return json_response({"status": "ok"})


@operations.get("/readyz")
async def readyz(request: Request) -> Response:
    """The engine is there and answers."""
    await check_engine(services(request))
    return json_response({"status": "ready"})


@operations.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    service = services(request)
    try:
        await check_engine(service)
        service.is_engine_up = True
    except EngineError:
        service.is_engine_up = False
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


async def check_engine(service: Services) -> None:
    """Raise EngineDeadError unless the engine answers within a few seconds."""
    engine = service.engine()
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await engine.check()
    except TimeoutError:
        raise EngineDeadError(
            f"the engine did not answer its check within {_CHECK_TIMEOUT_S:g} s"
        ) from None
