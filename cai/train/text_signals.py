"""What texts look like when a policy games its reward: length, repetition, boilerplate, refusals.

Pure functions over a list of answers; every share comes with the counts it was made of. Words are
what white space separates, compared without regard to case. Start from `read_signals`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cai.feedback.refusals import is_refusal


@dataclass(frozen=True, slots=True)
class Share:
    """A `count` of `n`."""

    count: int
    n: int

    @property
    def rate(self) -> float:
        """The share itself, and 0 of nothing."""
        return self.count / self.n if self.n else 0.0


class Opening(NamedTuple):
    """The first words that most answers share, and how many begin with them."""

    words: str
    share: Share


@dataclass(frozen=True, slots=True)
class TextSignals:
    """Figures of `num_texts` answers. `num_words` is their total.

    `repeated`: n-grams that their own answer had already, of all n-grams. `distinct`: different
    n-grams in all answers together, of all (distinct-n). `opening`: the commonest first words.
    `duplicates`: answers that an earlier one equals, white space apart.
    """

    num_texts: int
    num_words: int
    repeated: Share
    distinct: Share
    opening: Opening
    refusals: Share
    duplicates: Share

    @property
    def mean_words(self) -> float:
        """Words per answer."""
        return self.num_words / self.num_texts if self.num_texts else 0.0


def read_signals(texts: Sequence[str], *, n: int = 4, opening_words: int = 5) -> TextSignals:
    """All figures at once, for n-grams of `n` words and openings of `opening_words`."""
    words = [words_of(text) for text in texts]
    return TextSignals(
        num_texts=len(texts),
        num_words=sum(map(len, words)),
        repeated=repeated_ngrams(words, n),
        distinct=distinct_ngrams(words, n),
        opening=top_opening(words, opening_words),
        refusals=Share(sum(map(is_refusal, texts)), len(texts)),
        duplicates=Share(len(texts) - len({tuple(text.split()) for text in texts}), len(texts)),
    )


def words_of(text: str) -> list[str]:
    """Words without regard to case; punctuation stays on its word."""
    return text.casefold().split()


def repeated_ngrams(answers: Sequence[Sequence[str]], n: int) -> Share:
    """N-grams that stand earlier in the same answer, of all n-grams of all answers.

    1 − distinct-n of each answer, weighted by its n-grams. "a b a b a" has the bigrams ab, ba, ab,
    ba: two of four are repeated.
    """
    grams = [_ngrams(words, n) for words in answers]
    return Share(sum(len(one) - len(set(one)) for one in grams), sum(map(len, grams)))


def distinct_ngrams(answers: Sequence[Sequence[str]], n: int) -> Share:
    """Distinct-n of all answers together (Li et al. 2016): different n-grams, of all.

    It falls as the number of answers grows, so compare like numbers only.
    """
    grams = [gram for words in answers for gram in _ngrams(words, n)]
    return Share(len(set(grams)), len(grams))


def top_opening(answers: Sequence[Sequence[str]], num_words: int) -> Opening:
    """The commonest first `num_words` words; an answer of fewer opens with all it has.

    Of equally common ones the first in the alphabet; empty answers count as answers alone.
    """
    openings = Counter(" ".join(words[:num_words]) for words in answers if words)
    if not openings:
        return Opening("", Share(0, len(answers)))
    words, count = min(openings.items(), key=lambda one: (-one[1], one[0]))
    return Opening(words, Share(count, len(answers)))


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
