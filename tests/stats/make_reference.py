"""Writes `reference.json`: ratings and κ of fixed data, by choix, scikit-learn and statsmodels.

None of them is among the locked packages. Run it where they are:
`pip install choix scikit-learn statsmodels`, then `python -m tests.stats.make_reference` in the
root. `test_reference.py` holds ours against the file, and against the libraries that it finds.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("reference.json")
CATEGORIES = ("bad", "fair", "good", "best")
PRIOR_SD = 2.0

Pair = tuple[int, int]


def games() -> list[Pair]:
    """400 games (winner, loser) among six players, each of whom wins and loses."""
    rng = random.Random(7)
    strengths = (0.0, 0.4, 0.9, 1.3, 2.0, 2.2)
    found = []
    for _ in range(400):
        i, j = rng.sample(range(6), 2)
        odds = 2.718281828459045 ** (strengths[i] - strengths[j])
        found.append((i, j) if rng.random() < odds / (1 + odds) else (j, i))
    return found


def styles() -> list[float]:
    """A covariate of each game: the winner's less the loser's, longer winners more often."""
    rng = random.Random(8)
    return [round(rng.gauss(0.3, 1.0), 6) for _ in range(400)]


def labels() -> tuple[list[str], list[str]]:
    """300 items in four ordered categories by two labelers, who mostly agree."""
    rng = random.Random(9)
    first = [rng.choice(CATEGORIES) for _ in range(300)]
    second = [one if rng.random() < 0.6 else rng.choice(CATEGORIES) for one in first]
    return first, second


def panel() -> list[list[str]]:
    """120 items with five labels each."""
    rng = random.Random(10)
    truths = [rng.choice(CATEGORIES) for _ in range(120)]
    return [
        [truth if rng.random() < 0.55 else rng.choice(CATEGORIES) for _ in range(5)]
        for truth in truths
    ]


def computed() -> dict[str, Any]:
    """The libraries' figures."""
    return {
        "bradley_terry": bradley_terry(),
        "bradley_terry_prior": bradley_terry_prior(),
        "styled": styled(),
        "cohen": cohen(),
        "fleiss": fleiss(),
    }


def bradley_terry() -> list[float]:
    """The likeliest ratings, mean 0: choix, iterated Luce spectral ranking."""
    import choix

    values = choix.ilsr_pairwise(6, games(), alpha=0.0, max_iter=10_000, tol=1e-13)
    return [float(value - values.mean()) for value in values]


def bradley_terry_prior() -> list[float]:
    """The likeliest ratings under a normal prior: choix, its penalty being 1 / (2 sd²)."""
    import choix

    penalty = 1 / (2 * PRIOR_SD**2)
    values = choix.opt_pairwise(6, games(), alpha=penalty, method="Newton-CG", tol=1e-12)
    return [float(value) for value in values]


def styled() -> dict[str, Any]:
    """Ratings (mean 0) and the weight of the covariate, with its error: statsmodels' Logit.

    A game enters from both sides with weight one half, so that the outcome varies.
    """
    import numpy as np
    import statsmodels.api as sm

    rows, outcomes = [], []
    for (winner, loser), style in zip(games(), styles(), strict=True):
        row = np.zeros(7)
        row[winner], row[loser], row[6] = 1.0, -1.0, style
        rows += [row, -row]
        outcomes += [1.0, 0.0]
    design = np.delete(np.array(rows), 0, axis=1)  # the first player's rating is 0 here
    weights = np.full(len(rows), 0.5)
    model = sm.GLM(outcomes, design, family=sm.families.Binomial(), freq_weights=weights)
    found = model.fit(tol=1e-14, maxiter=200)
    values = np.concatenate([[0.0], found.params[:5]])
    return {
        "values": [float(value - values.mean()) for value in values],
        "weight": float(found.params[5]),
        "error": float(found.bse[5]),
    }


def cohen() -> dict[str, float]:
    """Cohen's κ, plain and weighted: scikit-learn."""
    from sklearn.metrics import cohen_kappa_score

    first, second = labels()
    order = list(CATEGORIES)
    return {
        name: float(cohen_kappa_score(first, second, labels=order, weights=weights))
        for name, weights in (("plain", None), ("linear", "linear"), ("quadratic", "quadratic"))
    }


def fleiss() -> float:
    """Fleiss' κ: statsmodels."""
    from statsmodels.stats.inter_rater import fleiss_kappa

    return float(fleiss_kappa([[item.count(one) for one in CATEGORIES] for item in panel()]))


if __name__ == "__main__":
    FILE.write_text(json.dumps(computed(), indent=2) + "\n")
