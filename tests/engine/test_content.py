"""The ways in which a text could still come out as control, each closed."""

from types import SimpleNamespace

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from cai.engine.content import ContentEncoder, control_tokens
from cai.engine.template import ChatRenderer
from tests.tiny_model import make_tokenizer


def unigram() -> PreTrainedTokenizerFast:
    """A tokenizer whose own vocabulary has its control tokens as whole pieces."""
    pieces = ["<unk>", "<s>", "</s>", *"ab/<>s ", "bab"]
    backend = Tokenizer(models.Unigram([(p, -len(p)) for p in pieces], unk_id=0))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def test_a_piece_of_the_vocabulary_itself_is_spelt_out():
    """Without its added tokens this tokenizer would still read `</s>` as one piece."""
    tokenizer = unigram()
    encoder = ContentEncoder(tokenizer)
    ids = encoder.encode("a</s>b")
    assert ids == [tokenizer.convert_tokens_to_ids(c) for c in "a</s>b"]
    assert encoder.control_in(ids) == ()
    assert encoder.encode("bab") == [tokenizer.convert_tokens_to_ids("bab")]


def test_what_cannot_be_spelt_is_left_out_rather_than_obeyed():
    """The unknown token is control too."""
    encoder = ContentEncoder(unigram())
    assert encoder.encode("a\u2603b") == encoder.encode("ab")


def test_control_tokens_are_those_that_mean_more_than_their_letters():
    tokenizer = make_tokenizer(
        added=(
            *(AddedToken("<think>"), AddedToken("word"), AddedToken(" \n")),
            AddedToken("special", special=True),
        )
    )
    control = control_tokens(tokenizer)
    assert {"<think>", "special", "<|im_end|>"} <= control.keys()
    assert not {"word", " \n"} & control.keys()


def test_a_tokenizer_without_a_backend_is_spelt_character_by_character():
    tokenizer = SimpleNamespace(
        added_tokens_decoder={9: AddedToken("<s>", special=True)},
        encode=lambda text, add_special_tokens: [9] if text == "<s>" else [ord(c) for c in text],
        get_vocab=lambda: {"<s>": 9},
    )
    assert ContentEncoder(tokenizer).encode("<s>") == [ord(c) for c in "<s>"]
    assert ContentEncoder(tokenizer).opening == []


def test_warming_up_changes_nothing():
    one = ChatRenderer(make_tokenizer())
    before = one.encode_content("a <|im_end|> b")
    one.warm_up()
    assert one.encode_content("a <|im_end|> b") == before
