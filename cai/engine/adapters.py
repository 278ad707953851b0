"""LoRA adapters beside the weights of one engine: several policies answered by one process.

An engine takes them when it was started with `enable_lora`. Each belongs to the weights that it was
trained on: a swap of those forgets all of them. Start from `Adapters.load`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from cai.engine.model_folder import check_model_folder, digest_model_folder
from cai.engine.vllm_requests import adapter_request, vllm_errors
from cai.errors import CaiError, ConflictError, EngineDeadError, NotFoundError, PolicyError
from cai.registry import choices
from cai.types import EngineIdentity

logger = logging.getLogger(__name__)

CONFIG = "adapter_config.json"


@dataclass(slots=True)
class Adapter:
    """A loaded adapter. `is_loaded` turns false when its base is replaced or it is dropped."""

    identity: EngineIdentity
    folder: Path
    request: Any
    is_loaded: bool = True

    def check(self) -> None:
        """Raise EngineDeadError when it answers no more."""
        if not self.is_loaded:
            raise EngineDeadError(f"the adapter '{self.identity.model}' is not loaded any more")


class Adapters:
    """The adapters of one engine, by the name that each is served under."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._numbers = count(1)
        self._loaded: dict[str, Adapter] = {}
        self._one = asyncio.Lock()
        config = llm.vllm_config.lora_config
        self.max_loaded = 0 if config is None else int(config.max_loras)
        """How many can be loaded at once; 0 where the engine takes none."""

    def names(self) -> list[str]:
        """What is loaded, in the order of loading."""
        return list(self._loaded)

    def get(self, name: str) -> Adapter:
        """A loaded adapter. Raises NotFoundError naming those there are."""
        if name not in self._loaded:
            known = self.names()
            raise NotFoundError(f"no adapter '{name[:100]}' is loaded{choices(name, known)}")
        return self._loaded[name]

    async def load(
        self, folder: Path, base: EngineIdentity, *, name: str, digest: str | None
    ) -> Adapter:
        """Load the adapter in `folder` under `name`; nobody is answered by it unless asked to.

        Raises PolicyError when vLLM refuses the adapter, and ConflictError when the engine takes
        none or no more, or the name is taken: that is no fault of the adapter's.
        """
        async with self._one:
            await asyncio.to_thread(check_model_folder, folder, config=CONFIG)
            if digest is None:
                digest = await asyncio.to_thread(digest_model_folder, folder)
            self._check_room(folder, name)
            request = adapter_request(name, next(self._numbers), folder)
            try:
                with vllm_errors():
                    is_added = await self._llm.add_lora(request)
            except EngineDeadError:
                raise
            except Exception as exc:  # the worker's own, whatever class it had there
                raise PolicyError(f"{folder}: vLLM refuses the adapter: {_one_line(exc)}") from exc
            if not is_added:
                raise PolicyError(f"{folder}: vLLM did not load the adapter")
            identity = replace(base, model=name, digest=digest)
            self._loaded[name] = adapter = Adapter(identity, folder, request)
            logger.info("adapter loaded: %s %s", name, digest)
            return adapter

    async def drop(self, name: str) -> None:
        """Let the adapter answer nobody from now on, and free its place."""
        async with self._one:
            adapter = self._loaded.pop(name, None)
            if adapter is None:
                return
            adapter.is_loaded = False
            await self._remove(adapter)

    async def forget(self) -> None:
        """Drop all of them: the weights below are about to be replaced."""
        for name in self.names():
            await self.drop(name)

    def close(self) -> None:
        """Let go of the engine: vLLM frees some of what it holds only with its object."""
        self._llm = None
        for adapter in self._loaded.values():
            adapter.is_loaded = False

    async def _remove(self, adapter: Adapter) -> None:
        try:
            await self._llm.remove_lora(adapter.request.lora_int_id)
        except Exception as exc:
            # It holds a place but answers nobody: `check` refuses before vLLM is asked.
            logger.warning("adapter %s: %s", adapter.identity.model, _one_line(exc))

    def _check_room(self, folder: Path, name: str) -> None:
        if self.max_loaded == 0:
            raise ConflictError(
                f"{folder}: an adapter, and this engine takes none; start it with "
                "--engine-arg enable_lora=true, or merge the adapter into its base"
            )
        if name in self._loaded:
            raise ConflictError(f"an adapter '{name}' is loaded already")
        if len(self._loaded) >= self.max_loaded:
            raise ConflictError(
                f"{folder}: the engine holds max_loras {self.max_loaded} adapters already "
                f"({', '.join(self._loaded)}); retire one, or start it with more"
            )


def _one_line(exc: BaseException) -> str:
    if isinstance(exc, CaiError):
        return exc.message
    return " ".join(str(exc).split())[:500] or type(exc).__name__
