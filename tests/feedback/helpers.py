"""A judge with known tastes, and constitutions to put to it."""

import math
import re

from cai.constitution.schema import Constitution
from cai.engine.scripted import ScriptedEngine, last_text
from cai.types import Message

ASKED = (Message("user", "How do I boil an egg?"),)

_PARTS = re.compile(
    r"^(#[0-9a-f]{8}) reply A\n(.*)\n\1 reply B\n(.*)\n\1 end\n\n(.*)\Z", re.S | re.M
)


def shown(prompt):
    """The answers shown as A and B, and the question below them."""
    found = _PARTS.search(last_text(prompt))
    return found[2], found[3], found[4]


def judge_engine(p_first, *, mass=1.0, **options):
    """An engine whose P(A) is `p_first(reply_a, reply_b, question)`."""

    def scores(prompt, _labels):
        p = p_first(*shown(prompt))
        return {"A": log(p * mass), "B": log((1 - p) * mass)}

    return ScriptedEngine(lambda _p, _s: "Reply A is short, reply B is long.", scores, **options)


def longer_wins(p=0.9, bias=0.0):
    """Prefers the longer answer with probability `p`, and the first by `bias` more."""

    def p_first(a, b, _question):
        likes = 0.5 if len(a) == len(b) else p if len(a) > len(b) else 1 - p
        return min(max(likes + bias, 0.0), 1.0)

    return p_first


def log(p):
    return math.log(p) if p > 0 else -math.inf


def constitution(*principles, composition="sample"):
    """Principles from dicts or ids; an id asks `Is it <id>?`."""
    made = [
        {"id": one, "compare": f"Is it {one}?"} if isinstance(one, str) else one
        for one in principles
    ]
    return Constitution.model_validate(
        {
            "name": "test",
            "version": 1,
            "title": "Test",
            "composition": composition,
            "principles": made,
        }
    )
