"""Preference rows as runs write them, for the tests of exports and cards."""

import math

from cai.dataset.preferences import preference_row
from cai.types import Message


def label(p_ab=0.9, p_ba=0.8, principles=("kind",), **more):
    return {
        "order_ab": {"A": math.log(p_ab), "B": math.log(1 - p_ab)},
        "order_ba": {"A": math.log(1 - p_ba), "B": math.log(p_ba)},
        "mass": [1.0, 1.0],
        "position_bias": (p_ab + 1 - p_ba) / 2 - 0.5,
        "principles": list(principles),
        "template": "sha256:t",
        "judge": {"policy": "judge-1", "digest": None},
        **more,
    }


def row(number=0, *, which=0, p_chosen=0.85, turns=1, **more):
    """The `which`-th pair of prompt `number`; its revision is the chosen answer."""
    history = [
        message
        for turn in range(turns - 1)
        for message in (Message("user", f"turn {turn}"), Message("assistant", "yes"))
    ]
    draft, revision = f"draft {number}.{which}", f"better {number}.{which}"
    step = {"principle": "kind", "critique": "Not kind.", "status": "revised", "revision": revision}
    defaults = {
        "source": "ai",
        "label": label(),
        "constitution": {"ref": "test@1", "digest": "sha256:c"},
        "policy": {"id": "base", "digest": None},
        "transcript": {"draft": draft, "steps": [step]},
    }
    return preference_row(
        prompt=(*history, Message("user", f"question {number}?")),
        chosen=revision,
        rejected=draft,
        p_chosen=p_chosen,
        **(defaults | more),
    )
