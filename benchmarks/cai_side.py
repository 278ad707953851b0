"""A side: the pipeline of `cai data generate` on an embedded engine that stays open.

With `judge` it also compares each draft with its revision, in both orders.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.models import DTYPE, quiet_environment
from benchmarks.sides import serve_commands

quiet_environment()


class Uncut:
    """An engine whose completions count as ended by themselves.

    The benchmark's model never ends a text, so that both sides generate equally many tokens; a
    revision that was cut off would not be judged.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, prompt: Any, sampling: Any) -> Any:
        made = await self._engine.generate(prompt, sampling)
        whole = tuple(replace(one, finish_reason="stop") for one in made.completions)
        return replace(made, completions=whole)

    async def score(self, prompt: Any, labels: Sequence[str]) -> Any:
        return await self._engine.score(prompt, labels)


def main(model: str, prompts: str, max_tokens: str, batch: str, judge: str) -> None:
    from cai.constitution.store import ConstitutionStore
    from cai.engine.embedded import EmbeddedEngine
    from cai.feedback.config import CanaryConfig, JudgeConfig
    from cai.pipeline import run
    from cai.pipeline_config import GenerateConfig

    constitution = ConstitutionStore(Path("constitutions")).get("harmless@2")
    with asyncio.Runner() as runner:
        engine = Uncut(
            runner.run(EmbeddedEngine.start(model, {"max_num_seqs": int(batch), "dtype": DTYPE}))
        )

        def handle(_command: dict[str, Any]) -> dict[str, Any]:
            folder = Path(tempfile.mkdtemp())
            config = GenerateConfig(
                prompts=Path(prompts),
                out=folder / "run",
                constitution=constitution.ref,
                engine=f"vllm:{model}",
                revisions=1,
                max_tokens=int(max_tokens),
                judge=None if judge == "judge" else "none",
                judging=JudgeConfig(min_mass=0.0, canaries=CanaryConfig(rate=0.0)),
            )
            runner.run(engine.reset_prefix_cache())
            started = time.perf_counter()
            summary = runner.run(run(config, constitution, engine=engine))
            seconds = time.perf_counter() - started
            counts = summary.progress.counts
            shutil.rmtree(folder)
            return {
                "tokens_per_s": counts.completion_tokens / seconds,
                "rows_per_s": counts.kept / seconds,
                "tokens": counts.completion_tokens,
                "rows": counts.kept,
                "rejected": dict(counts.rejected),
            }

        try:
            serve_commands(handle)
        finally:
            runner.run(engine.aclose())


if __name__ == "__main__":
    main(*sys.argv[1:])
