"""How often the A/B test errs: false positives at 50 looks, and power at stated effects.

Two arms of the same rate, looked at 50 times each: a test that errs once at any look counts as a
false positive. A test of one look at 5 %, read 50 times, stands beside it.
"""

from __future__ import annotations

import math
import random
from itertools import accumulate
from typing import NamedTuple

from cai.stats.intervals import Z_95, rate_of
from cai.stats.sequential import DIFFERENCE, bets, log_evidence

NUM_TESTS = 2000
NUM_LOOKS = 50
PER_LOOK = 40
"""Pairs of answers between two looks: one of each arm."""
ALPHA = 0.05
RATES = (0.5, 0.7, 0.95)
EFFECTS = (0.02, 0.05, 0.1, 0.2)
NUM_POWER_TESTS = 400


class Looks(NamedTuple):
    """Pairs won and lost by the second arm, and all pairs, at each look."""

    won: list[int]
    lost: list[int]


def main() -> None:
    check_shortcut()
    worst = 0.0
    print(f"{NUM_TESTS} A/A tests with {NUM_LOOKS} looks of {PER_LOOK} pairs, alpha {ALPHA}")
    for rate in RATES:
        found = [look(rate, rate, seed) for seed in range(NUM_TESTS)]
        errors = rate_of(sum(first_look(one) is not None for one in found), NUM_TESTS)
        naive = rate_of(sum(any(fixed_z(one)) for one in found), NUM_TESTS)
        assert errors is not None, "there are tests"
        assert naive is not None, "there are tests"
        low, high = errors.ci
        print(
            f"rate {rate:.2f}: false positives {errors.rate:.2%} [{low:.2%}, {high:.2%}]; "
            f"a z-test read at every look {naive.rate:.1%}"
        )
        worst = max(worst, errors.rate)
    print(f"false positives at most {ALPHA:.0%}: {'ok' if worst <= ALPHA else 'ABOVE'}")
    print(f"power from 0.70, over {NUM_POWER_TESTS} tests of {NUM_LOOKS * PER_LOOK} pairs at most")
    for effect in EFFECTS:
        stops = [first_look(look(0.7, 0.7 + effect, seed)) for seed in range(NUM_POWER_TESTS)]
        found_at = sorted(at * PER_LOOK for at in stops if at is not None)
        power = len(found_at) / NUM_POWER_TESTS
        median = f", half of those by {found_at[len(found_at) // 2]} pairs" if found_at else ""
        print(f"effect +{effect:.2f}: power {power:.1%}{median}")


def look(first: float, second: float, seed: int) -> Looks:
    """One test's counts at its looks: what differs between two arms of these rates."""
    draw = random.Random(f"{first} {second} {seed}").random
    num = NUM_LOOKS * PER_LOOK
    pairs = [(draw() < second) - (draw() < first) for _ in range(num)]
    won = list(accumulate(pair > 0 for pair in pairs))[PER_LOOK - 1 :: PER_LOOK]
    lost = list(accumulate(pair < 0 for pair in pairs))[PER_LOOK - 1 :: PER_LOOK]
    return Looks(won, lost)


GAINS = [(math.log1p(bet), math.log1p(-bet)) for bet in bets(DIFFERENCE)]


def first_look(found: Looks) -> int | None:
    """The number of the first look at which the test decides, from 1; None for none.

    The same as `p_value(...) < ALPHA` at no difference, with logs taken once for all looks.
    """
    limit = len(GAINS) * 2 / ALPHA
    for number, (won, lost) in enumerate(zip(*found, strict=True), start=1):
        for more, less in ((won, lost), (lost, won)):
            if math.fsum(math.exp(more * up + less * down) for up, down in GAINS) >= limit:
                return number
    return None


def fixed_z(found: Looks) -> list[bool]:
    """At each look, whether a test made for one look would decide."""
    return [
        abs(won - lost) > Z_95 * math.sqrt(won + lost) for won, lost in zip(*found, strict=True)
    ]


def check_shortcut() -> None:
    """The shortcut decides at the look at which the library's test does."""
    for seed in range(20):
        found = look(0.7, 0.8, seed)
        decided = [
            log_evidence(counts, 0.0, bounds=DIFFERENCE) >= math.log(1 / ALPHA)
            for counts in counts_of(found)
        ]
        slow = decided.index(True) + 1 if any(decided) else None
        assert slow == first_look(found), f"test {seed}: {slow} and {first_look(found)}"


def counts_of(found: Looks) -> list[dict[float, int]]:
    """The values of all pairs at each look."""
    return [
        {1.0: won, -1.0: lost, 0.0: number * PER_LOOK - won - lost}
        for number, (won, lost) in enumerate(zip(*found, strict=True), start=1)
    ]


if __name__ == "__main__":
    main()
