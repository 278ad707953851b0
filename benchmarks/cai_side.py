"""A side: the pipeline of `cai data generate` on an embedded engine that stays open."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.models import quiet_environment
from benchmarks.sides import serve_commands

quiet_environment()


def main(model: str, prompts: str, max_tokens: str, batch: str) -> None:
    from cai.constitution.store import ConstitutionStore
    from cai.engine.embedded import EmbeddedEngine
    from cai.pipeline import run
    from cai.pipeline_config import GenerateConfig

    constitution = ConstitutionStore(Path("constitutions")).get("harmless@2")
    with asyncio.Runner() as runner:
        engine = runner.run(EmbeddedEngine.start(model, {"max_num_seqs": int(batch)}))

        def handle(_command: dict[str, Any]) -> dict[str, Any]:
            folder = Path(tempfile.mkdtemp())
            config = GenerateConfig(
                prompts=Path(prompts),
                out=folder / "run",
                constitution=constitution.ref,
                engine=f"vllm:{model}",
                revisions=1,
                max_tokens=int(max_tokens),
            )
            started = time.perf_counter()
            summary = runner.run(run(config, constitution, engine=engine))
            seconds = time.perf_counter() - started
            tokens = summary.progress.counts.completion_tokens
            rows = sum(1 for _ in (folder / "run" / "transcripts.jsonl").open())
            shutil.rmtree(folder)
            return {"tokens_per_s": tokens / seconds, "tokens": tokens, "rows": rows}

        try:
            serve_commands(handle)
        finally:
            runner.run(engine.aclose())


if __name__ == "__main__":
    main(*sys.argv[1:])
