"""What may replace what in a running engine: values and spelling change, the rest is named."""

import json
import shutil

import pytest

from cai.engine.anatomy import check_fits, read_anatomy
from cai.errors import PolicyError
from tests.engine.test_weights import entry, write


@pytest.fixture
def now(model_folder):
    return read_anatomy(model_folder)


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(model_folder, tmp_path / "new")


def edit(path, **changes):
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps({key: one for key, one in value.items() if one is not ...}))


def reasons(folder, now):
    with pytest.raises(PolicyError) as caught:
        check_fits(read_anatomy(folder, like=now), now, folder=folder)
    assert "start an engine on it instead" in caught.value.message
    return caught.value.message


def test_a_copy_fits_and_is_read_from_what_is_known(folder, now):
    new = read_anatomy(folder, like=now)
    assert new.config is now.config
    assert new.tokenizer is now.tokenizer
    check_fits(new, now, folder=folder)


def test_another_spelling_of_the_same_config_fits(folder, now):
    """What an older library left out is its default; what decides nothing is not looked at."""
    edit(folder / "config.json", attention_bias=..., mlp_bias=..., transformers_version="4.40.0")
    edit(folder / "config.json", dtype="float32", use_cache=False, attention_dropout=0.5)
    edit(folder / "config.json", _name_or_path="x", pad_token_id=None)
    check_fits(read_anatomy(folder, like=now), now, folder=folder)


def test_how_a_trainer_left_its_padding_does_not_count(folder, now):
    tokenizer = folder / "tokenizer.json"
    side = {"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0}
    edit(tokenizer, truncation=side)
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()), indent=3))
    edit(folder / "tokenizer_config.json", model_max_length=77, padding_side="left")
    check_fits(read_anatomy(folder, like=now), now, folder=folder)


def test_another_config_is_named_with_both_values(folder, now):
    edit(folder / "config.json", num_attention_heads=4, rms_norm_eps=1e-3)
    message = reasons(folder, now)
    assert "num_attention_heads is 4, not 2" in message
    assert "rms_norm_eps is 0.001, not 1e-06" in message


def test_another_end_token_is_named(folder, now):
    edit(folder / "config.json", eos_token_id=2)
    assert "eos_token_id is 2, not 4" in reasons(folder, now)


def test_another_architecture_is_named(folder, now):
    edit(folder / "config.json", architectures=["MistralForCausalLM"], model_type="mistral")
    assert "architectures is ['MistralForCausalLM'], not ['LlamaForCausalLM']" in reasons(
        folder, now
    )


def test_a_config_that_only_the_engine_knows_is_compared_as_it_stands(folder, now):
    edit(folder / "config.json", model_type="from-the-future")
    assert "model_type is 'from-the-future', not 'llama'" in reasons(folder, now)


def test_quantized_weights_are_not_swapped(folder, now):
    edit(folder / "config.json", quantization_config={"quant_method": "fp8"})
    assert "quantized" in reasons(folder, now)


def test_missing_extra_and_reshaped_tensors_are_named(folder, now):
    write(
        folder / "model.safetensors",
        {"lm_head.weight": entry(), "z": entry("F32", (0,), (16,) * 2)},
    )
    message = reasons(folder, now)
    assert "tensors are missing (model.embed_tokens.weight" in message
    assert "1 tensors have no place (z)" in message
    assert "lm_head.weight is F32[2, 2], not BF16[" in message


def test_floats_of_any_kind_replace_each_other_and_integers_do_not(folder, now):
    from safetensors.torch import load_file

    from tests.checkpoints import as_float32, save

    tensors = load_file(folder / "model.safetensors")
    save(as_float32(tensors), folder, num_shards=1)
    check_fits(read_anatomy(folder, like=now), now, folder=folder)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].char()
    save(tensors, folder, num_shards=1)
    assert "model.norm.weight is I8[128], not BF16[128]" in reasons(folder, now)


def test_another_tokenizer_is_refused(folder, now):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"].pop()
    path.write_text(json.dumps(tokenizer))
    assert "its tokenizer is another" in reasons(folder, now)


def test_another_end_mark_of_the_tokenizer_is_refused(folder, now):
    edit(folder / "tokenizer_config.json", eos_token="<|im_end|>")
    assert "its tokenizer is another" in reasons(folder, now)


def test_another_template_or_none_is_refused(folder, now):
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert "its chat template is another" in reasons(folder, now)
    template.unlink()
    assert "its chat template is another" in reasons(folder, now)


def test_a_tokenizer_that_cannot_be_read_is_named(folder, now):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"tokenizer\.json: no tokenizer"):
        read_anatomy(folder, like=now)
