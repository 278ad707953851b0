"""Which policy answers: promoted, verified and rolled back on the running engine, one at a time.

A request is answered by one policy from beginning to end, and what is live is published last.
The mechanics are in `changeover.py`. Start from `LivePolicies`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from cai.engine.base import Engine
from cai.engine.swap import uninterrupted
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
from server.changeover import Changeover, Figures, Sealed, verified
from server.limits import Admission
from server.stores import Stores

if TYPE_CHECKING:
    from cai.policy.registry import PolicyRegistry

logger = logging.getLogger(__name__)

_ACTOR = "server"

T = TypeVar("T")
Write = Callable[["PolicyRegistry", Figures], object]
"""What is written down of a policy, with the figures of its probes, when it goes live."""


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
        self._deaths = Counter[str]()  # of engines, by the policy that was being loaded
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

    def turn(self) -> asyncio.Lock:
        """To be held by others while what answers must not change."""
        return self._one

    def check_served(self, ids: Collection[str]) -> None:
        """Raise ConflictError naming a policy that does not answer here."""
        known = self.servable()
        for id in ids:
            if id not in known:
                raise ConflictError(
                    f"the policy '{id}' does not answer on this server; load it with "
                    f"POST /v1/policies/{id}/verify",
                    param=f"split.{id}",
                )

    async def promote(self, id: str, *, reason: str, actor: str) -> PolicyRecord:
        """Make a policy the live one, after its files and its probes have passed.

        Raises NotFoundError or ConflictError when it may not go live, or when requests at work
        outlast the bound; PolicyError or ReloadError when it is not what its trainer made: it is
        rejected then, with the evidence, and the policy from before answers on. So it does on
        DatabaseError, a full disk say, and the policy's state stays what it was.
        """
        async with self._one:
            change = await self._ready()
            record = await self._ask(lambda registry: registry.promotable(id))

            def write(registry: PolicyRegistry, figures: Figures) -> None:
                registry.verified(record.id, figures, actor)
                registry.make_live(record.id, reason, figures, actor)

            await self._judged(record, actor, self._take_over(change, record, write))
            return await self._ask(lambda registry: registry.get(record.id))

    async def verify(self, id: str, *, actor: str) -> PolicyRecord:
        """Try a policy on the engine: an adapter stays and answers by its name, others go again.

        Raises as `promote`.
        """
        async with self._one:
            change = await self._ready()
            record = await self._ask(lambda registry: registry.promotable(id))
            new = await self._sealed(record)
            is_adapter = record.kind == "lora"
            trying = change.load_adapter if is_adapter else change.try_weights
            figures = await self._judged(record, actor, trying(new))
            return await uninterrupted(
                self._ask(lambda registry: registry.verified(record.id, figures, actor))
            )

    async def rollback(self, *, reason: str, actor: str) -> PolicyRecord | None:
        """Make live what was before; None when that is the model that the engine was opened on.

        The weights below an adapter are loaded with it. Raises ConflictError when nothing was
        before; otherwise as `promote`.
        """
        async with self._one:
            change = await self._ready()
            try:
                target = await self._ask(lambda registry: registry.rollback_target())
            except ConflictError:
                if await self._ask(lambda registry: registry.live()) is None:
                    raise
                await self._to_base(change, reason, actor)
                return None

            def write(registry: PolicyRegistry, figures: Figures) -> None:
                registry.make_live(target.id, reason, figures, actor, is_rollback=True)

            await self._judged(target, actor, self._go_back(change, target, write))
            return await self._ask(lambda registry: registry.get(target.id))

    async def _take_over(self, change: Changeover, record: PolicyRecord, write: Write) -> None:
        new = await self._sealed(record)

        async def publish(figures: Figures) -> None:
            await self._published(change, record, write, figures)

        if record.kind == "lora":
            await change.to_adapter(new, publish, gives_way=self._adapter)
        elif change.engine.identity().model == record.id:  # the weights below a live adapter
            await change.to_loaded(new, publish)
        else:
            await change.to_weights(new, publish)

    async def _go_back(self, change: Changeover, record: PolicyRecord, write: Write) -> None:
        below_digest = record.below_digest
        if record.kind != "lora" or below_digest == change.engine.identity().digest:
            await self._take_over(change, record, write)
            return

        async def publish(figures: Figures) -> None:
            await self._published(change, record, write, figures)

        below = await self._below(change, record)
        await change.to_adapter_of(below, await self._sealed(record), publish)

    async def _below(self, change: Changeover, record: PolicyRecord) -> Sealed | None:
        """The weights that an adapter belongs to; None where the engine was opened on them."""
        digest = str(record.below_digest)
        if digest == change.base.identity.digest:
            return None
        try:
            return await self._sealed(await self._ask(lambda registry: registry.get(digest)))
        except NotFoundError as exc:
            raise ConflictError(
                f"'{record.id}' is an adapter for '{record.parent or record.base}' ({digest}), "
                "which is not registered; add it: cai policy add PATH"
            ) from exc

    async def _to_base(self, change: Changeover, reason: str, actor: str) -> None:
        def write(registry: PolicyRegistry, figures: Figures) -> None:
            registry.take_down(reason, figures, actor)

        async def publish(figures: Figures) -> None:
            await self._published(change, None, write, figures)

        if change.is_on_base:
            await uninterrupted(publish({}))
        else:
            await change.to_base(publish)

    async def _published(
        self, change: Changeover, record: PolicyRecord | None, write: Write, figures: Figures
    ) -> None:
        """Write down what is loaded now as the live policy; None is the engine's own model."""
        await self._ask(lambda registry: write(registry, figures))
        self._adapter = record.id if record is not None and record.kind == "lora" else None
        name = change.engine.identity().model if record is None else record.id
        logger.info("live: %s", name)
        await self._retire_others(change, f"its base gave way to {name}", figures)

    async def _retire_others(self, change: Changeover, reason: str, figures: Figures) -> None:
        """Take adapters of weights that are not loaded any more out of service."""
        digest = change.engine.identity().digest

        def write(registry: PolicyRegistry) -> None:
            for record in registry.list("verified", limit=1000).records:
                if record.kind == "lora" and record.below_digest != digest:
                    registry.retire(record.id, reason, figures, _ACTOR)

        try:
            await self._ask(write)
        except CaiError as exc:  # what is live is so all the same
            logger.error("adapters were not retired (%s): %s", reason, exc.message)

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
            except (InputError, NotFoundError, ReloadError, OSError) as exc:
                if await self._is_damaged(change, live):
                    await self._fall_back(change, live, str(exc))
                elif isinstance(exc, PolicyError | ReloadError):
                    raise type(exc)(
                        f"the live policy '{live.id}' cannot be loaded: {exc.message}; start the "
                        "server on the engine that it was made for, or take another one live with "
                        "cai policy rollback"
                    ) from exc
                else:
                    raise
        page = await self._ask(lambda registry: registry.list("verified", limit=1000))
        for record in page.records:
            if record.kind == "lora" and record.id not in change.adapters():
                await self._load_beside(change, record)

    async def _load_live(self, change: Changeover, live: PolicyRecord) -> None:
        own = await self._sealed(live)
        if live.kind != "lora":
            await change.to_weights(own, _nothing)
            return
        if live.below_digest != change.engine.identity().digest:
            base = await self._ask(lambda registry: registry.get(str(live.below_digest)))
            await change.to_weights(await self._sealed(base), _nothing)
        await change.load_adapter(own)
        self._adapter = live.id

    async def _is_damaged(self, change: Changeover, live: PolicyRecord) -> bool:
        """Whether its files, or those below it, are not what was registered: no engine's fault."""
        try:
            await asyncio.to_thread(verified, await self._sealed(live))
            if live.kind == "lora" and (below := await self._below(change, live)) is not None:
                await asyncio.to_thread(verified, below)
        except (InputError, ConflictError, OSError):
            return True
        return False

    async def _fall_back(self, change: Changeover, live: PolicyRecord, failure: str) -> None:
        """Answer with the policy from before, else with what the engine was opened on.

        An older policy that answers is worth more than none. The registry says what and why.
        """
        reason = f"'{live.id}' could not be loaded at a start: {failure}"
        logger.error("%s", reason)
        try:
            target = await self._ask(lambda registry: registry.rollback_target())
            await self._load_live(change, target)
        except (InputError, NotFoundError, ConflictError, ReloadError, OSError) as exc:
            logger.error("nor the policy from before it: %s", exc)
            await self._to_base(change, reason, _ACTOR)
            return

        def write(registry: PolicyRegistry) -> None:
            registry.make_live(target.id, reason, {}, _ACTOR, is_rollback=True)

        await self._ask(write)
        logger.error("live: %s, in the place of '%s'", target.id, live.id)

    async def _load_beside(self, change: Changeover, record: PolicyRecord) -> None:
        try:
            await change.load_adapter(await self._sealed(record))
        except CaiError as exc:  # it may belong to another base, or find no room: no fault of its
            logger.warning("adapter %s does not answer: %s", record.id, exc.message)

    async def _judged(self, record: PolicyRecord, actor: str, trying: Awaitable[T]) -> T:
        """What `trying` gives; a policy that fails is rejected, with the reason as evidence."""
        try:
            return await trying
        except (InputError, ReloadError, OSError) as exc:
            failure = exc if isinstance(exc, CaiError) else PolicyError(f"{record.id}: {exc}")
            figures = exc.figures if isinstance(exc, ReloadError) else {}
            await self._reject(record, failure.message, figures, actor)
            raise failure from exc
        except EngineDeadError:
            self._deaths[record.id] += 1
            if (num := self._deaths[record.id]) > 1:  # once may be chance, and says nothing of it
                await self._reject(record, f"the engine died of it {num} times", {}, actor)
            raise

    async def _reject(
        self, record: PolicyRecord, reason: str, figures: Figures, actor: str
    ) -> None:
        try:
            await self._ask(lambda registry: registry.reject(record.id, reason, figures, actor))
        except CaiError as exc:  # a full disk, say: the reason itself is what the caller needs
            logger.error("%s stays %s: %s", record.id, record.state, exc.message)

    async def _sealed(self, record: PolicyRecord) -> Sealed:
        folder = await self._ask(lambda registry: registry.path(record))
        return Sealed(record.id, folder, record.manifest_digest)

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

    async def _ready(self) -> Changeover:
        """The engine to be changed; adapters that the registry took back are seen first."""
        change = await self._swappable()

        def out(registry: PolicyRegistry) -> list[str]:
            states = {id: registry.get(id).state for id in change.adapters()}
            return [id for id, state in states.items() if state not in ("verified", "live")]

        for id in await self._ask(out):
            if id != self._adapter:
                change.hide(id)
        return change

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


async def _nothing(_figures: Figures) -> None:
    """What is published where the registry says so already."""
