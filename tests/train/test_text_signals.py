"""Length, repetition, boilerplate, refusals and duplicates of answers, counted by hand."""

from cai.train.text_signals import (
    Share,
    distinct_ngrams,
    read_signals,
    repeated_ngrams,
    top_opening,
    words_of,
)


def test_repeated_ngrams_count_within_an_answer():
    """'a b a b a' has the bigrams ab ba ab ba: two repeat. 'a b' has one, which repeats none."""
    assert repeated_ngrams([words_of("a b A b a"), words_of("a b")], 2) == Share(2, 5)


def test_distinct_ngrams_count_over_all_answers():
    """ab ba ab ba, ab: two different ones of five."""
    assert distinct_ngrams([words_of("a b a b a"), words_of("a b")], 2) == Share(2, 5)


def test_an_answer_shorter_than_n_has_no_ngrams():
    assert repeated_ngrams([["a"], []], 2) == Share(0, 0)
    assert Share(0, 0).rate == 0.0


def test_the_commonest_opening_is_found_without_regard_to_case():
    answers = [words_of(text) for text in ("Sure, here is one", "sure, here is two", "No.", "")]
    found = top_opening(answers, 3)
    assert found.words == "sure, here is"
    assert found.share == Share(2, 4)


def test_equally_common_openings_are_told_by_the_alphabet():
    assert top_opening([["b"], ["a"]], 1).words == "a"


def test_no_answer_has_no_opening():
    assert top_opening([[], []], 3).share == Share(0, 2)


def test_all_signals_of_some_answers():
    """Words 4 + 4 + 6 + 0 = 14; the second repeats the first, white space apart."""
    texts = ["Use a red towel.", "Use  a red towel.\n", "Sorry, I won't answer that. No.", ""]
    found = read_signals(texts, n=2, opening_words=2)
    assert (found.num_texts, found.num_words, found.mean_words) == (4, 14, 3.5)
    assert found.repeated == Share(0, 11)
    assert found.distinct == Share(8, 11)
    assert (found.opening.words, found.opening.share) == ("use a", Share(2, 4))
    assert found.refusals == Share(1, 4)
    assert found.duplicates == Share(1, 4)


def test_no_text_has_no_figures():
    found = read_signals([])
    assert (found.num_texts, found.mean_words, found.refusals.rate) == (0, 0.0, 0.0)
