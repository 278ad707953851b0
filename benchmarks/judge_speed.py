"""Labels/s of the judge (one token in each order) against 64-token verdicts in both orders.

What the judge saves is the generation, so the ratio falls with the length of the prompt (bare vLLM
on 111 tokens: 3.4). Real conversations are held against the target; pairs of the small world, which
this tokenizer cuts into more tokens, are printed beside them.
The model has the bundled one's size: on a slow processor the prefill of a larger one hides it all.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.models import DTYPE, first_turns, make_model, quiet_environment

quiet_environment()

NUM_PAIRS = 128
VERDICT_TOKENS = 64
TARGET = 3.0


def main(*, rounds: int = 5) -> None:
    asyncio.run(measure(rounds))


async def measure(rounds: int) -> None:
    from cai.engine.embedded import EmbeddedEngine

    with tempfile.TemporaryDirectory() as folder:
        model = str(make_model(Path(folder) / "model", is_small=True))
        engine = await EmbeddedEngine.start(model, {"max_num_seqs": 128, "dtype": DTYPE})
        await compare(engine, "real conversations", real_pairs(), rounds=rounds, target=TARGET)
        await compare(engine, "the small world's pairs", world_pairs(), rounds=max(1, rounds // 2))
        await engine.aclose()


async def compare(
    engine: Any, name: str, pairs: list[Any], *, rounds: int, target: float | None = None
) -> None:
    """Alternate both ways of judging the same pairs, after one round that is not counted."""
    from cai.constitution.store import ConstitutionStore
    from cai.feedback.config import JudgeConfig
    from cai.feedback.judge import Judge
    from cai.feedback.prompts import ask_comparison
    from cai.types import ChatPrompt, Sampling

    constitution = ConstitutionStore(Path("constitutions")).get("harmless@2")
    text = constitution.candidates("compare")[0].compare or ""
    judge = Judge(engine, config=JudgeConfig(min_mass=0.0))

    def both(one: Any) -> list[Any]:
        conversation, a, b = one
        return [ChatPrompt(ask_comparison(conversation, *o, text)) for o in ((a, b), (b, a))]

    async def label(one: Any) -> None:
        await judge.compare(*one, constitution, row=one[1])

    async def verdict(one: Any) -> None:
        sampling = Sampling(max_tokens=VERDICT_TOKENS, temperature=0.0)
        await asyncio.gather(*(engine.generate(prompt, sampling) for prompt in both(one)))

    figures = []
    for number in range(rounds + 1):
        pair = [await rate(engine, ask, pairs) for ask in (label, verdict)]
        if number:
            figures.append(pair)
            print(f"  {pair[0]:.1f} against {pair[1]:.1f} labels/s", flush=True)
    ratios = sorted(a / b for a, b in figures)
    median = statistics.median(ratios)
    tokens = statistics.mean([await engine.count_tokens(p) for one in pairs for p in both(one)])
    verdict_on = "" if target is None else f"; target {target}"
    grade = "" if target is None else (" ok" if median >= target else " BELOW")
    print(
        f"judge / generated verdicts, {name} of {tokens:.0f} tokens: {median:.2f} (spread "
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}, {rounds} alternations{verdict_on}){grade}"
    )


def world_pairs() -> list[Any]:
    """A prompt of one turn and two answers to it, from the small world."""
    from cai.sandbox.dialogues import draw_pair
    from cai.sandbox.prompts import prompts

    draw = random.Random(0)
    asked = prompts("train", None, NUM_PAIRS, 0, turns=1)
    drawn = [(one.messages, *draw_pair(draw, one.request, "train")) for one in asked]
    return [(messages, a.text, b.text) for messages, a, b in drawn]


def real_pairs() -> list[Any]:
    """A first turn, and two others in the place of answers."""
    from cai.types import Message

    turns = first_turns(NUM_PAIRS + 2)
    return [((Message("user", t),), turns[i + 1], turns[i + 2]) for i, t in enumerate(turns[:-2])]


async def rate(engine: Any, ask: Any, pairs: list[Any]) -> float:
    await engine.reset_prefix_cache()
    started = time.perf_counter()
    await asyncio.gather(*(ask(one) for one in pairs))
    return len(pairs) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
