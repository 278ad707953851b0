"""How far labelers agree beyond chance: Cohen's κ for two, Fleiss' κ for several.

κ is None where it is not defined: nothing was labelled, or only one category was ever used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal


def share_agreed(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Share of items that both labelers gave the same label."""
    if not first:
        return None
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    order: Sequence[Hashable] | None = None,
    weights: Literal["linear", "quadratic"] | None = None,
) -> float | None:
    """Cohen's κ of two labelers over the same items. `weights` needs the categories' `order`.

    >>> cohen_kappa("aabb", "aabb"), cohen_kappa("aabb", "abab")
    (1.0, 0.0)
    """
    pairs = Counter(zip(first, second, strict=True))
    rows, columns = Counter(first), Counter(second)
    size = len(first)
    place = {category: index for index, category in enumerate(order or [])}

    def cost(a: Hashable, b: Hashable) -> float:
        if weights is None:
            return float(a != b)
        gap = abs(place[a] - place[b])
        return float(gap if weights == "linear" else gap * gap)

    observed = sum(n * cost(a, b) for (a, b), n in pairs.items())
    expected = sum(n * m * cost(a, b) for a, n in rows.items() for b, m in columns.items())
    return None if not expected else 1 - observed * size / expected


def fleiss_kappa(items: Iterable[Sequence[Hashable]]) -> float | None:
    """Fleiss' κ over items, each with the labels it was given; those with one label are left out.

    The number of labels may vary between items: each item's agreement is over its own pairs.

    >>> fleiss_kappa(["aaa", "bbb"]), round(fleiss_kappa(["aab", "abb"]), 3)
    (1.0, -0.333)
    """
    agreed = []
    totals: Counter[Hashable] = Counter()
    for labels in items:
        num_labels = len(labels)
        if num_labels < 2:
            continue
        counts = Counter(labels)
        totals.update(counts)
        same = sum(n * (n - 1) for n in counts.values())
        agreed.append(same / (num_labels * (num_labels - 1)))
    if not agreed:
        return None
    by_chance = sum((n / totals.total()) ** 2 for n in totals.values())
    if by_chance == 1:
        return None
    return (sum(agreed) / len(agreed) - by_chance) / (1 - by_chance)
