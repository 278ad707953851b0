"""How a question to a judge is put: does it lead, ask two things, or turn on a negation?

Each function gives the words that do it, or None. They look at English, and at patterns only.
"""

from __future__ import annotations

import re

_LEADING = re.compile(
    r"\b(obviously|clearly|surely|undoubtedly|of course|needless to say|as everyone knows|"
    r"don't you (?:think|agree)|wouldn't you|isn't it|aren't they|won't you|right\?|"
    r"you (?:will|would) agree|(?:answer|reply|response|option) (?:A|B)|"
    r"(?:first|second|former|latter) (?:answer|reply|response|option|one))(?!\w)",
    re.IGNORECASE,
)
_COMPARATIVES = (
    "more|less|better|worse|fewer|safer|kinder|clearer|shorter|longer|closer|sooner|fairer|"
    "politer|warmer|nicer|wiser|truer|simpler|stronger|happier|milder|calmer"
)
_SECOND_QUESTION = re.compile(
    r"\?\s*\S.*\?|[,;]?\s+(?:and|or)\s+(?:which|who|what|is|does|how|why|whether)\b"
    # two comparisons of different things: "less harmful and more polite"
    rf"|\b(?:{_COMPARATIVES})\b[^?]*?(?:\band\b|\bor\b|,)[^?]*?\b(?:{_COMPARATIVES})\b",
    re.IGNORECASE | re.DOTALL,
)
_NEGATION = re.compile(
    r"\b(?:is|are|does|do|did|has|have|can|could|would|should|will)n['’]t\b|\bcan't\b|\bwon't\b|"
    r"\b(?:not|never|neither|nor|cannot|unable to|fails? to|failing to|refrains? from|"
    r"avoids?|avoiding|least un\w+)\b",
    re.IGNORECASE,
)


def leading(question: str) -> str | None:
    """Words that suggest which answer to take.

    >>> leading("Which answer is obviously kinder?"), leading("Which answer is kinder?")
    ('obviously', None)
    """
    return _found(_LEADING, question)


def doubled(question: str) -> str | None:
    """The second thing that is asked.

    >>> doubled("Which answer is safer and more polite?")
    'safer and more'
    >>> doubled("Which answer is less harmful and cruel?")
    """
    return _found(_SECOND_QUESTION, question)


def negated(question: str) -> str | None:
    """The word that turns the question round.

    >>> negated("Which answer does not insult?"), negated("Which answer insults less?")
    ('not', None)
    """
    return _found(_NEGATION, question)


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return None if match is None else " ".join(match.group().split()).strip(" ,;")
