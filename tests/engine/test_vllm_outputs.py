"""vLLM's outputs become our records; worked on stand-ins with vLLM's field names."""

from types import SimpleNamespace

import pytest

from cai.engine.vllm_outputs import completion, finish_reason, logprobs, token_logprob
from cai.errors import EngineError


def entry(logprob, rank, text):
    return SimpleNamespace(logprob=logprob, rank=rank, decoded_token=text)


def output(**fields):
    base = {"text": "ab", "token_ids": [5, 6], "finish_reason": "stop", "logprobs": None}
    return SimpleNamespace(**base | fields)


PLACES = [
    {5: entry(-0.1, 1, "a"), 7: entry(-2.5, 2, "c")},
    {6: entry(-3.0, 9, "b"), 7: entry(-0.2, 1, "c"), 8: entry(-1.0, 2, None)},
]


def test_an_output_is_a_completion():
    made = completion(output(), None)
    assert (made.text, made.finish_reason, made.token_ids) == ("ab", "stop", (5, 6))
    assert made.logprobs is None


def test_reasons_are_three_and_an_error_is_none_of_them():
    assert [finish_reason(r) for r in (None, "stop", "length", "abort", "repetition")] == [
        *(None, "stop", "length", "abort", "abort"),
    ]
    assert completion(output(finish_reason=None), None).finish_reason == "abort"
    with pytest.raises(EngineError, match="failed on this request"):
        finish_reason("error")


@pytest.mark.parametrize(
    ("top", "first", "second"),
    [
        (0, (), ()),
        (1, ((5, "a", -0.1),), ((7, "c", -0.2),)),
        (2, ((5, "a", -0.1), (7, "c", -2.5)), ((7, "c", -0.2), (8, "", -1.0))),
    ],
)
def test_a_place_has_exactly_the_alternatives_asked_for(top, first, second):
    """The sampled token is among vLLM's entries whatever its rank; here it is the ninth."""
    made = logprobs(output(logprobs=PLACES), top)
    assert [place.top for place in made] == [first, second]
    assert [(place.id, place.text, place.logprob) for place in made] == [
        *((5, "a", -0.1), (6, "b", -3.0)),
    ]


def test_a_streamed_piece_has_the_places_of_its_own_tokens():
    made = logprobs(output(token_ids=[6], logprobs=PLACES), 1)
    assert [place.id for place in made] == [6]
    assert logprobs(output(token_ids=[], logprobs=PLACES), 1) == ()
    assert logprobs(output(token_ids=[], logprobs=[]), 1) == ()


def test_log_probs_that_were_not_asked_for_are_none():
    assert logprobs(output(logprobs=PLACES), None) is None
    assert logprobs(output(), 3) is None


def test_places_and_tokens_that_do_not_fit_are_never_paired():
    with pytest.raises(EngineError, match="3 tokens came with 2 log-probs"):
        logprobs(output(token_ids=[4, 5, 6], logprobs=PLACES), 1)
    with pytest.raises(EngineError, match="lack its own token 4"):
        logprobs(output(token_ids=[4, 6], logprobs=PLACES), 1)


def test_a_token_without_a_rank_comes_last():
    place = {5: entry(-0.1, None, "a"), 6: entry(-0.5, 1, "b")}
    assert token_logprob(5, place, 2).top == ((6, "b", -0.5), (5, "a", -0.1))
