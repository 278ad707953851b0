"""Labels/s of the judge (one token in each order) against 64-token verdicts in both orders."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.models import first_turns, make_model, quiet_environment

quiet_environment()

NUM_PAIRS = 256
VERDICT_TOKENS = 64
TARGET = 3.0


def main(*, rounds: int = 5) -> None:
    asyncio.run(measure(rounds))


async def measure(rounds: int) -> None:
    from cai.constitution.store import ConstitutionStore
    from cai.engine.embedded import EmbeddedEngine
    from cai.feedback.config import JudgeConfig
    from cai.feedback.judge import Judge
    from cai.feedback.prompts import ask_comparison
    from cai.types import ChatPrompt, Message, Sampling

    constitution = ConstitutionStore(Path("constitutions")).get("harmless@2")
    compare = constitution.candidates("compare")[0].compare or ""
    turns = first_turns(NUM_PAIRS + 2)
    pairs = [((Message("user", t),), turns[i + 1], turns[i + 2]) for i, t in enumerate(turns[:-2])]
    with tempfile.TemporaryDirectory() as folder:
        model = str(make_model(Path(folder) / "model"))
        engine = await EmbeddedEngine.start(model, {"max_num_seqs": 128})
        judge = Judge(engine, config=JudgeConfig(min_mass=0.0))

        async def label(one: Any) -> None:
            await judge.compare(*one, constitution, row=one[1])

        async def verdict(one: Any) -> None:
            conversation, a, b = one
            prompts = [ask_comparison(conversation, *order, compare) for order in ((a, b), (b, a))]
            sampling = Sampling(max_tokens=VERDICT_TOKENS, temperature=0.0)
            await asyncio.gather(*(engine.generate(ChatPrompt(p), sampling) for p in prompts))

        figures = []
        for number in range(rounds + 1):
            pair = [await rate(engine, ask, pairs) for ask in (label, verdict)]
            if number:
                figures.append(pair)
                print(f"  {pair[0]:.1f} against {pair[1]:.1f} labels/s", flush=True)
        await engine.aclose()
    ratios = sorted(a / b for a, b in figures)
    median = statistics.median(ratios)
    print(
        f"judge / generated verdicts: {median:.2f} (spread {ratios[0]:.2f} to {ratios[-1]:.2f}, "
        f"{rounds} pairs; target {TARGET}) {'ok' if median >= TARGET else 'BELOW'}"
    )


async def rate(engine: Any, ask: Any, pairs: list[Any]) -> float:
    await engine.reset_prefix_cache()
    started = time.perf_counter()
    await asyncio.gather(*(ask(one) for one in pairs))
    return len(pairs) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
