"""How principles speak of each dimension: wordings made from parts, and those of constitutions.

The bundled model learns a dimension from many wordings, so that it reads the principle it is given.
`DIMENSION_OF` says which dimension a shipped principle's id stands for; ids it lacks are left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cai.constitution.schema import Constitution
from cai.sandbox.dimensions import DIMENSIONS, Dimension

Step = Literal["critique", "revision", "compare"]

DIMENSION_OF: dict[str, Dimension] = {
    "no-harmful-help": "harm",
    "harm-in-any-form": "harm",
    "care-for-others": "harm",
    "no-illegal-help": "harm",
    "no-injury": "harm",
    "respect-privacy": "harm",
    "no-help-to-deceive": "harm",
    "no-harm-behind-pretence": "harm",
    "reasoned-refusal": "balance",
    "no-needless-refusal": "overrefusal",
    "no-preaching": "preachy",
    "civil-tone": "respect",
    "to-the-point": "direct",
    "no-flattery": "flattery",
    "no-false-agreement": "honest",
    "say-what-is-true": "honest",
    "ask-when-unclear": "clarify",
}
CONSTITUTION_SHARE = 0.5
"""Share of training examples that use a constitution's own wording, where one has the dimension."""

INVERTED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Parts:
    """Verb phrases of a dimension: what a flawed reply does, and what a sound one does better."""

    flawed: tuple[str, ...]
    sound: tuple[str, ...]


class Wording(NamedTuple):
    """A compare question. `inverted` asks for the reply that is worse on the dimension."""

    text: str
    inverted: bool = False


PARTS: dict[Dimension, Parts] = {
    "harm": Parts(
        flawed=(
            "helps with something harmful",
            "gives help that does harm",
            "is harmful, dangerous or unethical",
            "makes it easier to hurt others",
            "helps someone break the law",
            "could get a person or an animal hurt",
            "invades someone's privacy or deceives people",
            "lets a story, a game or a role excuse harm",
        ),
        sound=(
            "does less harm",
            "is safer for everyone",
            "is more harmless",
            "keeps to the law",
            "protects what belongs to others",
        ),
    ),
    "balance": Parts(
        flawed=(
            "turns the user away without a reason or helps with harm",
            "refuses without cause, refuses without saying why, or gives harmful help",
            "is evasive or harmful",
        ),
        sound=(
            "says no with a reason, and only where it must",
            "is harmless without being evasive",
        ),
    ),
    "overrefusal": Parts(
        flawed=(
            "refuses a request that is fine to help with",
            "turns down a harmless request",
            "withholds help that would hurt nobody",
        ),
        sound=("helps with what is harmless", "refuses less without need"),
    ),
    "preachy": Parts(
        flawed=("preaches", "lectures the user about morals", "moralises"),
        sound=("spares the user a sermon", "is freer of lectures"),
    ),
    "flattery": Parts(
        flawed=("flatters the user", "praises the user for asking", "butters the user up"),
        sound=("is freer of flattery", "goes without praise for the user"),
    ),
    "direct": Parts(
        flawed=(
            "talks around before it comes to the point",
            "opens with needless words",
            "beats about the bush",
        ),
        sound=("comes to the point sooner", "is more direct"),
    ),
    "honest": Parts(
        flawed=(
            "agrees with something false",
            "confirms a false claim",
            "says what is not true to please the user",
        ),
        sound=("is more honest", "puts a mistake right", "tells the truth"),
    ),
    "respect": Parts(
        flawed=("is rude to the user", "insults the user", "talks down to the user"),
        sound=("is more polite", "treats the user with more respect"),
    ),
    "clarify": Parts(
        flawed=(
            "guesses at an unclear request",
            "assumes what the user means instead of asking",
            "acts on a request that it cannot have understood",
        ),
        sound=("asks back when a request is unclear", "asks instead of guessing"),
    ),
}
CRITIQUE_FRAMES = (
    "Point out where the {reply} {flawed}.",
    "Say whether the {reply} {flawed}.",
    "Name any part of the {reply} that {flawed}.",
    "Find every place where the {reply} {flawed}.",
    "Identify ways in which the assistant's last {reply} {flawed}.",
)
REVISION_FRAMES = (
    "Rewrite the {reply} so that it no longer {flawed}.",
    "Change the {reply} so that it {sound}.",
    "Please rewrite the {reply}: see that it {sound}.",
    "Write a new {reply} that {sound}.",
)
COMPARE_FRAMES = (
    "Which {reply} {flawed} less?",
    "Which of the two replies {flawed} less?",
    "Which {reply} {sound}?",
    "Choose the {reply} that {sound}.",
)
INVERTED_FRAMES = (
    "Which {reply} {flawed} more?",
    "Which {reply} {flawed}?",
    "Choose the {reply} that {flawed}.",
)
REPLIES = ("reply", "reply", "answer", "response")

Texts = dict[Dimension, dict[Step, tuple[str, ...]]]


def texts_of(constitutions: Iterable[Constitution]) -> Texts:
    """The wordings that constitutions use, by dimension and step."""
    found: dict[Dimension, dict[Step, list[str]]] = {}
    for principle in (p for one in constitutions for p in one.principles):
        dimension = DIMENSION_OF.get(principle.id)
        if dimension is None:
            continue
        steps = found.setdefault(dimension, {"critique": [], "revision": [], "compare": []})
        for step, texts in steps.items():
            if (text := getattr(principle, step)) is not None and text not in texts:
                texts.append(text)
    return {
        dimension: {step: tuple(texts) for step, texts in steps.items()}
        for dimension, steps in found.items()
    }


def critique_pair(draw: random.Random, dimension: Dimension, texts: Texts) -> tuple[str, str]:
    """The critique and the revision text of one principle about a dimension."""
    own = texts.get(dimension)
    if own and own["critique"] and draw.random() < CONSTITUTION_SHARE:
        index = draw.randrange(len(own["critique"]))
        return own["critique"][index], own["revision"][index % len(own["revision"])]
    return (
        _fill(draw, dimension, draw.choice(CRITIQUE_FRAMES)),
        _fill(draw, dimension, draw.choice(REVISION_FRAMES)),
    )


def compare_wording(
    draw: random.Random,
    dimension: Dimension,
    texts: Texts,
    *,
    inverted_share: float = INVERTED_SHARE,
) -> Wording:
    """A compare question about a dimension, now and then an inverted one."""
    if draw.random() < inverted_share:
        return Wording(_fill(draw, dimension, draw.choice(INVERTED_FRAMES)), True)
    own = texts.get(dimension)
    if own and own["compare"] and draw.random() < CONSTITUTION_SHARE:
        return Wording(draw.choice(own["compare"]))
    return Wording(_fill(draw, dimension, draw.choice(COMPARE_FRAMES)))


def every_text() -> list[str]:
    """All made-up wordings once: what a tokenizer should know."""
    draw = random.Random(0)
    frames = (*CRITIQUE_FRAMES, *REVISION_FRAMES, *COMPARE_FRAMES, *INVERTED_FRAMES)
    return [_fill(draw, d, frame) for d in DIMENSIONS for frame in frames for _ in range(4)]


def _fill(draw: random.Random, dimension: Dimension, frame: str) -> str:
    parts = PARTS[dimension]
    return (
        frame.replace("{reply}", draw.choice(REPLIES))
        .replace("{flawed}", draw.choice(parts.flawed))
        .replace("{sound}", draw.choice(parts.sound))
    )
