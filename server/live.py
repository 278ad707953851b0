"""Which policy answers: promoted, verified and rolled back on the running engine, one at a time.

A request is answered by one policy from beginning to end, and what is live is published last.
The mechanics are in `changeover.py`. Start from `LivePolicies`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cai.engine.base import Engine
from cai.errors import (
    CaiError,
    ConflictError,
    EngineDeadError,
    InputError,
    MissingDependencyError,
    NotFoundError,
    PolicyError,
    ReloadError,
    UnsupportedError,
)
from cai.policy.assignment import LIVE, assign
from cai.policy.records import PolicyRecord
from cai.policy.reload import is_swappable
from cai.registry import did_you_mean
from server.changeover import Changeover, Figures, Publish
from server.limits import Admission
from server.stores import Stores

if TYPE_CHECKING:
    from cai.policy.registry import PolicyRegistry

logger = logging.getLogger(__name__)

_ACTOR = "server"

T = TypeVar("T")


class LivePolicies:
    """The policies of one engine, with the registry that says what each is.

    `attach` comes first, with each engine that is opened; the rest raises EngineDeadError before,
    and after `detach`.
    """

    def __init__(self, stores: Stores, admission: Admission, *, drain_s: float) -> None:
        """`drain_s`: how long requests at work are waited for before weights are replaced."""
        self._stores = stores
        self._admission = admission
        self._drain_s = drain_s
        self._one = asyncio.Lock()
        self._engine: Engine | None = None
        self._change: Changeover | None = None
        self._adapter: str | None = None  # that is live; None means the whole weights are
        self.split: Mapping[str, float] = {}
        """Percent of what goes to `live` by policy id, as `GET /v1/traffic` shows it."""
        self._suspended: str | None = None
        self._why_none = "the engine is still loading; GET /readyz tells when it is there"

    async def attach(self, engine: Engine) -> None:
        """Bring an engine that was just opened to what the registry says is live, then answer.

        Raises what keeps the live policy from being loaded. Adapters that cannot be are told in
        the log. An engine whose weights cannot be replaced answers as it is.
        """
        async with self._one:
            self.detach()
            change = await self._begin(engine)
            if change is not None:
                await self._restore_registered(change)
            self._engine, self._change = engine, change

    def take(self, engine: Engine) -> None:
        """Answer with an engine of the caller's, as it is."""
        self._engine, self._change, self._adapter = engine, None, None

    def detach(self, reason: str = "the engine is not there; GET /readyz tells when it is") -> None:
        """The engine is gone, or not there yet; `reason` is what callers are told."""
        self._engine, self._change, self._adapter = None, None, None
        self._why_none, self._suspended = reason, None

    def suspend(self, reason: str) -> None:
        """Answer nobody for a while, with the engine kept; `reason` is what callers are told."""
        self._suspended = reason

    def resume(self) -> None:
        """Answer again."""
        self._suspended = None

    @property
    def current(self) -> Engine | None:
        """The engine, as its whole weights answer; None while there is none."""
        return self._engine

    @property
    def name(self) -> str:
        """What `live` stands for: the policy that answers where no A/B split says otherwise."""
        return self._adapter or self._attached().identity().model

    def engine(self, model: str, *, key: str | None = None) -> Engine:
        """The engine as the policy `model` answers. Raises NotFoundError naming those there are.

        What goes to `live` is shared out by the A/B split: the same `key` gets the same policy.
        """
        engine = self._attached()
        if model == LIVE and self.split:
            arm = assign(self.split, key or secrets.token_hex(8))
            model = arm if arm in self.servable() else LIVE
        if model == LIVE:
            return engine if self._adapter is None else self._view(self._adapter)
        if model == engine.identity().model:
            return engine
        if model in self.adapters():
            return self._view(model)
        known = self.servable()
        raise NotFoundError(
            f"no model '{model[:100]}'{did_you_mean(model[:100], known)}; "
            f"there are: {', '.join(known)}",
            param="model",
        )

    def servable(self) -> list[str]:
        """`live`, and every policy that answers under its own name."""
        return [LIVE, self._attached().identity().model, *self.adapters()]

    def adapters(self) -> list[str]:
        """The adapters that answer beside the whole weights."""
        return [] if self._change is None else self._change.adapters()

    async def promote(self, id: str, *, reason: str, actor: str) -> PolicyRecord:
        """Make a policy the live one, after its files and its probes have passed.

        Raises NotFoundError or ConflictError when it may not go live, or when requests at work
        outlast the bound; PolicyError or ReloadError when it is not what its trainer made: it is
        rejected then, with the evidence, and the policy from before answers on.
        """
        async with self._one:
            change = await self._swappable()
            record = await self._ask(lambda registry: registry.promotable(id))

            async def publish(figures: Figures) -> None:
                def write(registry: PolicyRegistry) -> None:
                    registry.verified(record.id, figures, actor)
                    registry.make_live(record.id, reason, figures, actor)

                await self._ask(write)

            await self._judged(record, actor, self._take_over(change, record, publish))
            return await self._ask(lambda registry: registry.get(record.id))

    async def verify(self, id: str, *, actor: str) -> PolicyRecord:
        """Try a policy on the engine: an adapter stays and answers by its name, others go again.

        Raises as `promote`.
        """
        async with self._one:
            change = await self._swappable()
            record = await self._ask(lambda registry: registry.promotable(id))
            folder = await self._ask(lambda registry: registry.path(record))
            is_adapter = record.kind == "lora"
            trying = change.load_adapter if is_adapter else change.try_weights
            figures = await self._judged(record, actor, trying(folder, record.id))
            return await self._ask(lambda registry: registry.verified(record.id, figures, actor))

    async def rollback(self, *, reason: str, actor: str) -> PolicyRecord | None:
        """Make live what was before; None when that is the model that the engine was opened on.

        Raises ConflictError when nothing was; otherwise as `promote`.
        """
        async with self._one:
            change = await self._swappable()
            try:
                target = await self._ask(lambda registry: registry.rollback_target())
            except ConflictError:
                if await self._ask(lambda registry: registry.live()) is None:
                    raise
                await self._to_base(change, reason, actor)
                return None

            async def publish(figures: Figures) -> None:
                await self._ask(
                    lambda registry: registry.make_live(
                        target.id, reason, figures, actor, is_rollback=True
                    )
                )

            await self._judged(target, actor, self._take_over(change, target, publish))
            return await self._ask(lambda registry: registry.get(target.id))

    async def _take_over(self, change: Changeover, record: PolicyRecord, publish: Publish) -> None:
        folder = await self._ask(lambda registry: registry.path(record))
        gave_way: list[str] = []
        if record.kind == "lora":
            await publish(await change.load_adapter(folder, record.id))
            self._adapter = record.id
        elif change.engine.identity().model == record.id:  # the weights below a live adapter
            await publish(await change.check(folder))
            self._adapter = None
        else:
            gave_way = await change.to_weights(folder, record.id, publish)
            self._adapter = None
        logger.info("live: %s", record.id)
        await self._retire(gave_way, f"its base gave way to {record.id}")

    async def _to_base(self, change: Changeover, reason: str, actor: str) -> None:
        async def publish(figures: Figures) -> None:
            await self._ask(lambda registry: registry.take_down(reason, figures, actor))

        gave_way: list[str] = []
        if change.is_on_base:
            await publish({})
        else:
            gave_way = await change.to_base(publish)
        self._adapter = None
        logger.info("live: %s, which the engine was opened on", change.base.name)
        await self._retire(gave_way, "its base gave way to the engine's own model")

    async def _restore_registered(self, change: Changeover) -> None:
        try:
            await self._restore(change)
            self.split = await self._stores.run(lambda stores: stores.traffic.current().split)
        except MissingDependencyError as exc:  # a server without policies serves all the same
            logger.info("no policies: %s", exc.message)

    async def _restore(self, change: Changeover) -> None:
        """Load what is live, then the adapters that may answer beside it."""
        live = await self._ask(lambda registry: registry.live())
        if live is not None:
            try:
                await self._load_live(change, live)
            except (PolicyError, ReloadError) as exc:
                raise type(exc)(
                    f"the live policy '{live.id}' cannot be loaded: {exc.message}; repair its "
                    "folder, or take another one live with cai policy rollback"
                ) from exc
        page = await self._ask(lambda registry: registry.list("verified", limit=1000))
        for record in page.records:
            if record.kind == "lora" and record.id not in change.adapters():
                await self._load_beside(change, record)

    async def _load_live(self, change: Changeover, live: PolicyRecord) -> None:
        folder = await self._ask(lambda registry: registry.path(live))
        if live.kind != "lora":
            await change.to_weights(folder, live.id, _nothing)
            return
        if live.base_digest != change.engine.identity().digest:
            base = await self._ask(lambda registry: registry.get(str(live.base_digest)))
            below = await self._ask(lambda registry: registry.path(base))
            await change.to_weights(below, base.id, _nothing)
        await change.load_adapter(folder, live.id)
        self._adapter = live.id

    async def _load_beside(self, change: Changeover, record: PolicyRecord) -> None:
        try:
            folder = await self._ask(lambda registry: registry.path(record))
            await change.load_adapter(folder, record.id)
        except CaiError as exc:  # it may belong to another base, or find no room: no fault of its
            logger.warning("adapter %s does not answer: %s", record.id, exc.message)

    async def _retire(self, ids: list[str], reason: str) -> None:
        for id in ids:
            try:
                await self._ask(partial(_retired, id=id, reason=reason))
            except ConflictError as exc:  # it was the live one, and is retired already
                logger.debug("%s: %s", id, exc.message)

    async def _judged(self, record: PolicyRecord, actor: str, trying: Awaitable[T]) -> T:
        """What `trying` gives; a policy that fails is rejected, with the reason as evidence."""
        try:
            return await trying
        except (InputError, ReloadError, OSError) as exc:
            failure = exc if isinstance(exc, CaiError) else PolicyError(f"{record.id}: {exc}")
            await self._ask(lambda registry: registry.reject(record.id, failure.message, {}, actor))
            raise failure from exc

    async def _ask(self, question: Callable[[PolicyRegistry], T]) -> T:
        return await self._stores.run(lambda stores: question(stores.policies))

    def _attached(self) -> Engine:
        if self._engine is None or self._suspended is not None:
            raise EngineDeadError(self._suspended or self._why_none)
        return self._engine

    async def _begin(self, engine: Engine) -> Changeover | None:
        if not is_swappable(engine):
            return None
        return await Changeover.begin(engine, self._admission, drain_s=self._drain_s)

    async def _swappable(self) -> Changeover:
        engine = self._attached()
        if self._change is None:
            self._change = await self._begin(engine)
        if self._change is None:
            raise UnsupportedError(
                f"the weights of '{engine.identity().model}' cannot be replaced here; start the "
                "server on an embedded engine: sandbox, or vllm:<folder>"
            )
        return self._change

    def _view(self, name: str) -> Engine:
        assert self._change is not None, "adapters are an embedded engine's"
        return self._change.view(name)


def _retired(registry: PolicyRegistry, *, id: str, reason: str) -> PolicyRecord:
    return registry.retire(id, reason, {}, _ACTOR)


async def _nothing(_figures: Figures) -> None:
    """What is published where the registry says so already."""
