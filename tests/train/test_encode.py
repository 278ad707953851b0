"""Rows as token ids: what is learned, that it is what is served, what is refused, what is cut."""

import pytest

from cai.engine.open import SANDBOX_MODEL
from cai.engine.template import ChatRenderer
from cai.errors import ConfigError, DataError
from cai.train.encode import Encoder, Fit
from cai.types import Message
from tests.tiny_model import CHATML, make_tokenizer

ASK = (Message("user", "Hi"),)
LONG = (
    Message("system", "Be kind."),
    Message("user", "one two three four"),
    Message("assistant", "five six seven"),
    Message("user", "more"),
    Message("assistant", "end"),
)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return Encoder(tokenizer, end_ids={tokenizer.convert_tokens_to_ids("<|im_end|>")})


def learnt(encoder, encoded):
    kept = [i for i, is_learnt in zip(*encoded, strict=True) if is_learnt]
    return encoder.tokenizer.decode(kept)


def test_the_assistants_turns_are_learned_with_their_end_tokens(encoder):
    encoded = encoder.turns(LONG)
    assert learnt(encoder, encoded) == "five six seven<|im_end|>end<|im_end|>"
    assert encoder.tokenizer.decode(encoded.ids).endswith("assistant\nend<|im_end|>")


def test_turns_of_the_context_are_not_learned(encoder):
    assert learnt(encoder, encoder.turns(LONG, num_context=4)) == "end<|im_end|>"


def test_a_prompt_is_what_is_served_and_the_answer_follows_it(encoder, tokenizer):
    served = ChatRenderer(tokenizer).render(ASK)
    assert encoder.prompt(ASK) == served
    answer = encoder.answer(ASK, "Hello")
    assert served + answer == encoder.turns((*ASK, Message("assistant", "Hello"))).ids
    assert answer[-1] == encoder.end_id


def test_an_answer_of_several_turns_ends_with_the_last(encoder):
    ids = encoder.answer(LONG[:2], LONG[2:])
    assert encoder.tokenizer.decode(ids).startswith("five six seven<|im_end|>")
    assert encoder.prompt(LONG[:2]) + ids == encoder.turns(LONG).ids


def test_control_tokens_in_text_are_text(encoder):
    encoded = encoder.turns((Message("user", "a<|im_end|>"), Message("assistant", "b<|im_end|>c")))
    assert encoded.ids.count(encoder.end_id) == 2
    assert learnt(encoder, encoded) == "b<|im_end|>c<|im_end|>"
    assert encoded.is_learnt[-1]


def test_the_bundled_models_rows_are_those_of_its_build():
    """The same ids and marks as the encoder that the bundled model was trained with."""
    from transformers import AutoTokenizer

    from cai.sandbox.tokenizer import Encoder as Built

    tokenizer = AutoTokenizer.from_pretrained(SANDBOX_MODEL)
    expected = Built(tokenizer.backend_tokenizer).turns(LONG)
    assert tuple(Encoder(tokenizer).turns(LONG)) == expected


def test_a_model_without_a_template_is_refused():
    with pytest.raises(ConfigError, match=r"no chat template; add chat_template\.jinja"):
        Encoder(make_tokenizer(template=None))


def test_a_template_that_does_not_end_the_turn_is_refused():
    with pytest.raises(ConfigError, match="no end token of the model"):
        Encoder(make_tokenizer(CHATML.replace("<|im_end|>", "")))


def test_an_end_token_that_the_model_does_not_know_as_one_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"\(</s>\)"):
        Encoder(tokenizer)  # the template ends turns with <|im_end|>


def test_a_template_that_rewrites_the_prompt_is_refused():
    rewriting = "{{ messages | length }}" + CHATML
    with pytest.raises(ConfigError, match="does not keep a prompt as the prefix"):
        Encoder(make_tokenizer(rewriting))


def test_a_template_that_rewrites_earlier_turns_is_refused_where_it_matters():
    """It shows only the last two messages: a single turn keeps its prompt, two do not."""
    last_two = CHATML.replace("for m in messages", "for m in messages[-2:]")
    tokenizer = make_tokenizer(last_two)
    encoder = Encoder(tokenizer, end_ids={tokenizer.convert_tokens_to_ids("<|im_end|>")})
    assert encoder.turns((*ASK, Message("assistant", "Hello")))
    with pytest.raises(ConfigError, match="does not keep a prompt as the prefix"):
        encoder.turns(LONG)


def test_a_row_that_fits_is_whole(encoder):
    fit = Fit(1000)
    assert encoder.fit(LONG, fit) == encoder.turns(LONG)
    assert (fit.num_whole, fit.num_shortened, fit.num_left_out) == (1, 0, 0)


def test_the_oldest_turns_go_first_and_the_system_message_stays(encoder):
    whole = encoder.turns(LONG, num_context=4)
    fit = Fit(len(whole.ids) - 1)
    shorter = encoder.fit(LONG, fit, num_context=4)
    assert shorter == encoder.turns((LONG[0], *LONG[3:]), num_context=2)
    assert (fit.num_whole, fit.num_shortened, fit.num_left_out) == (0, 1, 0)


def test_a_learned_turn_is_never_dropped_nor_cut(encoder):
    """All turns are learned, so there is nothing to drop, and the row is left out."""
    fit = Fit(len(encoder.turns(LONG).ids) - 1)
    assert encoder.fit(LONG, fit) is None
    assert fit.as_dict() == {"whole": 0, "shortened": 0, "left_out": 1}


def test_both_answers_get_the_same_prompt(encoder):
    prompt, long_answer = LONG[:4], "word " * 5
    needed = len(encoder.prompt(prompt)) + len(encoder.answer(prompt, long_answer))
    fit = Fit(needed - 1)
    found = encoder.fit_answers(prompt, ("short", long_answer), fit)
    shorter = (LONG[0], LONG[3])
    assert found.prompt_ids == encoder.prompt(shorter)
    assert found.answers == [encoder.answer(shorter, a) for a in ("short", long_answer)]
    assert encoder.fit_answers(ASK, ("word " * 200,), fit) is None
    assert (fit.num_shortened, fit.num_left_out) == (1, 1)


def test_when_most_rows_are_too_long_it_is_an_error():
    fit = Fit(64, num_whole=1, num_shortened=1, num_left_out=3)
    with pytest.raises(DataError, match=r"3 of 5 rows are longer than 64 tokens.* max_new_tokens"):
        fit.check()
    Fit(64, num_whole=3, num_left_out=3).check()
