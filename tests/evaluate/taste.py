"""A judge that reads marks in answers: under "Is it X?" it prefers the answer that says x+.

`x+` is worth 1 on X, `x-` is worth -1; where both answers are worth the same it prefers neither.
Under "Is it not X?" it is the other way round.
"""

from __future__ import annotations

import re

from cai.constitution.schema import Case, Constitution, Principle
from tests.feedback.helpers import judge_engine

SURE = 0.9


def worth(answer: str, quality: str) -> int:
    return answer.count(f"{quality}+") - answer.count(f"{quality}-")


def p_first(a: str, b: str, question: str) -> float:
    found = re.search(r"Is it (not )?(\w+)", question)
    assert found is not None, question
    difference = worth(a, found[2]) - worth(b, found[2])
    if found[1]:
        difference = -difference
    return 0.5 if difference == 0 else SURE if difference > 0 else 1 - SURE


def judge(**options):
    """The judge; `model` and `digest` say who it is."""
    return judge_engine(p_first, **options)


def principle(quality: str, *, asks: str | None = None, **more: object) -> Principle:
    """A principle about a quality, with one case that it should get right."""
    case = Case(prompt=f"About {quality}?", better=f"{quality}+", worse=f"{quality}-")
    values = {"compare": f"Is it {asks or quality}?", "cases": (case,), **more}
    return Principle(id=quality, **values)  # type: ignore[arg-type]


def made(*principles: Principle, version: int | str = 1, composition: str = "sample"):
    return Constitution(
        name="taste",
        version=version,  # type: ignore[arg-type]
        title="Taste",
        composition=composition,  # type: ignore[arg-type]
        principles=principles,
    )
