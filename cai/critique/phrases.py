"""The turns of phrase by which models say that nothing is wrong, announce a revision, or critique.

Patterns only; `text.py` decides what they mean. Each is matched at the start of a text.
"""

from __future__ import annotations

import re


def _any(*forms: str) -> str:
    """One of several forms; a space stands for any white space, ’ for an apostrophe of any kind."""
    spaced = (form.replace(" ", r"\s+").replace("’", r"['\u2019]") for form in forms)
    return f"(?:{'|'.join(spaced)})"


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_BE = "(?:is|are|was|were|seems?)"
_CHANGE = "(?:further |other )?(?:changes?|revisions?|edits?|corrections?|improvements?)"
_FLAW = "(?:further |other )?(?:issues?|problems?|flaws?|faults?)"
_NEEDED = "(?:needed|necessary|required|warranted|called for)"
_REPLY = "(?:reply|answer|response|message)"
_LAST = "(?:last|previous|above)"
_THE_REPLY = f"(?:the|my|this) (?:{_LAST} )?{_REPLY}"

CRITIQUE_LABEL = _compiled(r"\W*(?:critique\W+)?")

_NO_CHANGE = f"(?:there {_BE} )?no {_CHANGE}(?: {_BE})? {_NEEDED}"
_NOTHING = f"nothing (?:in {_THE_REPLY} )?(?:(?:needs|has|is) )?"
_NO_FLAW = f"(?:there {_BE} )?no {_FLAW}(?: {_BE})?(?: found| present| to report)?"
_TO_CHANGE = "to (?:be )?(?:changed?|fix(?:ed)?|revised?|corrected?|improved?|critique)"

NOTHING_WRONG = _compiled(
    _any(
        _NO_CHANGE,
        f"{_NO_FLAW}(?: with {_THE_REPLY})?",
        f"(?:there {_BE} |there’s )?no need for (?:any )?{_CHANGE}",
        f"(?:there {_BE} |there’s )?no need to (?:change|revise|edit) it",
        f"(?:there {_BE} |there’s )?{_NOTHING}{_TO_CHANGE}",
        f"{_THE_REPLY} (?:needs|requires) no {_CHANGE}",
        f"{_THE_REPLY} (?:does not|doesn’t) (?:need|require) (?:any |a )?{_CHANGE}",
        f"{_THE_REPLY} is (?:already )?(?:fine|good|appropriate) as (?:it )?(?:is|stands)",
        "i (?:would not|wouldn’t) change (?:anything|a thing)",
        f"no {_CHANGE}",
        "none(?: is)?(?: needed)?",
    )
)

NO_CHANGE_AT_ALL = _compiled(rf"\W*{_any(_NO_CHANGE)}\W*\Z")

# What may follow in the same sentence: the sentence's end, or where nothing is wrong.
NOTHING_TAIL = _compiled(
    _any("", " here", " at all", " (?:to|in|with|for) (?:the|my|this|it)\\b[^.;,]*")
    + r"(?:\s*[.!,;:—–\n]|\s+-\s|\s*\Z)"
)

TAKEN_BACK = _compiled(
    r".*?\b"
    + _any(
        *("but", "however", "except", "although", "though", "yet", "nevertheless"),
        *("apart from", "aside from", "other than", "unfortunately", "would be better"),
        *("should (?:have|be|not)", "shouldn’t", "could (?:have|be)", "ought"),
    )
    + r"\b"
)

_NEW = "(?:revised|rewritten|reworded|rephrased|improved|updated|corrected|edited|modified)"
_MORE = f"(?:{_NEW}|new|better|(?:more|less) [\\w-]+)"
_HERE = _any("here is", "here’s", "here are", "below is", "the following is")
_SAID = _any(
    *("sure", "certainly", "of course", "okay", "ok", "absolutely", "understood", "thank"),
    *("thanks", "you’re right", "you are right", "good point", "i see", "i understand"),
    *("i apologi[sz]e", "i’m sorry", "i am sorry", "sorry", "my apologies"),
)
_OF_REPLY = f" of (?:the|my|your|that) (?:{_LAST} |original )?{_REPLY}"
_NOT_OF_ELSE = f"(?:{_OF_REPLY}|(?! of))"
_MORE_WORDS = "(?:,? (?:and )?[\\w-]+){0,3}?"
_ANNOUNCED = _any(
    f"{_HERE} (?:the|a|an|my|one) (?:[\\w-]+ )?{_MORE}{_MORE_WORDS} {_REPLY}",
    f"{_HERE} (?:the|a|an|my|one) (?:[\\w-]+ )?{_MORE}{_MORE_WORDS} version{_NOT_OF_ELSE}",
    f"{_HERE} (?:the|a|my) (?:[\\w-]+ )?(?:revision|rewrite|rewriting){_NOT_OF_ELSE}",
)
_TITLED = _any(f"{_NEW} (?:{_REPLY}|version)", f"new {_REPLY}")
_SPOKEN = rf"[\s*_]*(?:{_SAID}\b[^\n:]{{0,160}}?[,.!]\s+)?"

PREAMBLE = _compiled(
    _any(
        rf"{_SPOKEN}{_ANNOUNCED}\b[^\n:]{{0,160}}:[*_]{{0,2}}",  # Sure, here is a revised reply:
        rf"{_SPOKEN}[*_]{{0,2}}(?:{_TITLED}|revision|(?:my )?reply)[*_]{{0,2}}:[*_]{{0,2}}",
        rf"\s*(?:#+\s*|\*\*){_TITLED}(?:\*\*)?[^\S\n]*\n",  # a heading of its own
    )
    + r"\s*"
)

_VERB = (
    r"(?:\w+ly\s+)?(?:is|was|has|had|does|did|do|can|could|should|would|may|might|will"
    r"|\w+s|\w+ed|gave|made|left|took|told)\b"
)

CRITIQUE_OPENING = _compiled(
    r"\W*"
    + _any(
        "critique[*_]*\\s*:",
        f"the critique (?:is|was|points?|says?|of (?:my|the|your) (?:{_LAST} )?{_REPLY})\\b",
        f"the assistant(?:’s)? (?:(?:{_LAST} )?{_REPLY} )?{_VERB}",
        f"(?:the|my|your) {_LAST} (?:reply|response|answer) {_VERB}",
    )
)

# Said to users too: in a quiz, or to correct what was said some turns ago.
VERDICT = _compiled(
    rf"\W*(?:my|your)\s+{_LAST}\s+{_REPLY}\s+(?:is|was)\s+(?:\w+ly\s+)?"
    r"(?:right|correct|true|accurate|wrong|incorrect|mistaken|spot on)\b"
)
