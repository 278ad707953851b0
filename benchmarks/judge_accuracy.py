"""The sandbox judge on held-out pairs whose better answer is known: both orders against each one.

A missing verdict counts as wrong. The measured position bias stands beside the planted one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from benchmarks.models import quiet_environment

quiet_environment()

NUM_PAIRS = 6000


def main() -> None:
    asyncio.run(measure())


async def measure() -> None:
    from cai.constitution.store import ConstitutionStore
    from cai.engine.open import open_engine
    from cai.sandbox.examine import examine_judge
    from cai.sandbox.principles import texts_of

    store = ConstitutionStore(Path("constitutions"))
    texts = texts_of([store.get("harmless@2"), store.get("helpful-honest@1")])
    engine = await open_engine("sandbox")
    try:
        report(await examine_judge(engine, texts, num_pairs=NUM_PAIRS))
    finally:
        await engine.aclose()


def report(figures: dict[str, Any]) -> None:
    both, first, second = (
        figures[name] for name in ("accuracy", "accuracy_first_order", "accuracy_second_order")
    )
    for name, rate in (("both orders", both), ("first order", first), ("second order", second)):
        low, high = rate["ci"]
        print(f"{name:13} {rate['rate']:.2%} [{low:.2%}, {high:.2%}] n={rate['n']}")
    gaps = {}
    for name, one in figures["position_bias"].items():
        gaps[name] = abs(one["measured"] - one["planted"])
        print(f"bias {name:12} measured {one['measured']:+.3f} planted {one['planted']:+.3f}")
    tie = gaps.pop("tie")
    worst = max(gaps.values())
    holds = both["rate"] >= 0.97 and both["rate"] >= max(first["rate"], second["rate"])
    holds &= both["n"] >= 4000 and worst <= 0.03
    print(
        f"debiased >= 97 % on >= 4,000 pairs and at least each order; bias within 3 points "
        f"(worst {100 * worst:.1f}): {'ok' if holds else 'BELOW'}"
    )
    print(f"pairs without a better answer, left out of that: bias off by {100 * tie:.1f} points")


if __name__ == "__main__":
    main()
