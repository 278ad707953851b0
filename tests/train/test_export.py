"""A policy folder appears whole and clean, with probes that can be worked out again."""

import errno
import json
import random

import pytest
import torch
from safetensors.torch import load_file

from cai.engine.anatomy import check_fits, read_anatomy
from cai.engine.model_folder import check_model_folder
from cai.errors import ConflictError, DataError
from cai.policy.manifest import read_manifest, verify
from cai.train import export
from cai.train.base import load_policy
from cai.train.export import check_out, export_policy, probe_set, rounded
from cai.train.facts import ModelFacts
from cai.train.rollouts_vllm import write_weights
from cai.types import Message
from tests.tiny_model import write_model
from tests.train.runs import file_names, question, sft_config

FIELDS = {"name": "p", "kind": "full", "method": "sft", "base": "tiny"}


@pytest.fixture
def policy(model_folder, tmp_path):
    return load_policy(str(model_folder), sft_config(tmp_path, tmp_path, model_folder))


@pytest.fixture
def trained(policy):
    """Weights that bf16 cannot hold."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 1e-3)
    return policy


def exported(policy, out, **more):
    return export_policy(
        rounded(policy.model, policy.dtype),
        policy.tokenizer,
        out,
        dtype=policy.dtype,
        **FIELDS | more,
    )


def test_the_folder_is_clean_and_vouched_for(trained, tmp_path):
    checkpoint = exported(trained, tmp_path / "out", metrics={"eval_loss": 1})
    assert file_names(checkpoint.folder) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    check_model_folder(checkpoint.folder)
    assert verify(checkpoint.folder) == checkpoint.manifest
    assert checkpoint.manifest.metrics == {"eval_loss": 1.0}
    assert file_names(tmp_path) == ["out"]


def test_config_and_weights_say_the_same_dtype_and_end_token(trained, tmp_path, model_folder):
    folder = exported(trained, tmp_path / "out").folder
    config = json.loads((folder / "config.json").read_text())
    base = json.loads((model_folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert config["eos_token_id"] == base["eos_token_id"]
    assert config["use_cache"] is True
    assert str(tmp_path) not in json.dumps(config)


def test_probes_are_the_log_probs_of_the_stored_weights(trained, tmp_path):
    """Computed again in float64 from the exported file, one token at a time."""
    model = rounded(trained.model, trained.dtype)
    probes = probe_set(
        model, trained.tokenizer, trained.encoder, [question(1), question(2)], num=3, seed=1
    )
    folder = exported(trained, tmp_path / "out", probes=probes).folder
    from transformers import AutoModelForCausalLM

    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    for probe in read_manifest(folder).probes:
        ids = list(probe.prompt_ids)
        for token, logprob in zip(probe.continuation_ids, probe.logprobs, strict=True):
            with torch.no_grad():
                expected = again(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token]
            assert logprob == pytest.approx(expected.item(), abs=2e-4)
            ids.append(token)


def test_probes_are_fixed_by_the_seed_and_use_given_answers(policy):
    prompts, answers = [question(n) for n in range(5)], [f"answer {n}" for n in range(5)]
    args = (policy.model, policy.tokenizer, policy.encoder, prompts)
    one, two, other = (probe_set(*args, num=7, seed=s, answers=answers) for s in (1, 1, 2))
    assert one == two
    assert one != other
    assert len(one) == 7
    first = random.Random("probes|1").sample(range(5), 5)[0]
    expected = policy.encoder.answer(prompts[first], answers[first])
    assert list(one[0].continuation_ids) == expected
    assert policy.model.training


@pytest.mark.parametrize("is_pushed", [False, True])
def test_tied_weights_are_stored_once_in_another_dtype(tmp_path, is_pushed):
    """What training holds in float32 takes the place of the bfloat16 that an engine holds."""
    base = write_model(tmp_path / "base", is_tied=True)
    policy = load_policy(str(base), sft_config(tmp_path, tmp_path, base))
    out = tmp_path / "out"
    if is_pushed:
        write_weights(policy.model, base, out, low_precision=True)
    else:
        exported(policy, out)
    check_fits(read_anatomy(out), read_anatomy(base), folder=out)
    assert ModelFacts.of(out).num_parameters == ModelFacts.of(base).num_parameters
    assert "lm_head.weight" not in load_file(out / "model.safetensors")


LONGER = (Message("user", "fox " * 600),)


@pytest.mark.parametrize("answers", [None, ["a dog " * 200, "a dog " * 200]])
@pytest.mark.parametrize("longest", [None, 40, 512])
def test_a_probe_leaves_room_for_one_more_token_in_the_context(policy, answers, longest):
    """An engine takes prompts below its context alone; of a longer text the beginning counts."""
    prompts = [question(1), LONGER]
    longest = longest or len(policy.encoder.prompt(question(1))) + 1
    probes = probe_set(
        *(policy.model, policy.tokenizer, policy.encoder, prompts),
        num=2,
        answers=answers,
        max_length=longest,
    )
    for probe in probes:
        assert len(probe.prompt_ids + probe.continuation_ids) < longest
        assert len(probe.continuation_ids) >= 8
        assert any(
            list(probe.prompt_ids) == policy.encoder.prompt(one)[: len(probe.prompt_ids)]
            for one in prompts
        )


def test_without_a_limit_a_probe_stays_within_the_models_context(policy):
    (probe,) = probe_set(policy.model, policy.tokenizer, policy.encoder, [LONGER], num=1)
    assert len(probe.prompt_ids + probe.continuation_ids) == 511


def test_a_folder_that_is_no_policy_is_left_alone(policy, tmp_path):
    (tmp_path / "out").mkdir()
    exported(policy, tmp_path / "out")  # an empty folder is no one's
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(ConflictError, match="exists and is no policy"):
        exported(policy, tmp_path / "other", replace=True)
    assert file_names(tmp_path / "other") == ["thesis.txt"]


def test_a_policy_is_replaced_only_when_asked_and_by_its_name(policy, tmp_path):
    out = tmp_path / "out"
    first = exported(policy, out)
    with pytest.raises(ConflictError, match=r"holds the policy 'p' .* --fresh"):
        check_out(out, name="p", replace=False)
    with pytest.raises(ConflictError, match="holds the policy 'p'"):
        check_out(out, name="q", replace=True)
    with torch.no_grad():
        next(policy.model.parameters()).add_(1.0)
    second = exported(policy, out, replace=True)
    assert second.manifest.digest != first.manifest.digest
    assert verify(out).digest == second.manifest.digest
    assert file_names(tmp_path) == ["out"]


def test_a_full_disk_leaves_nothing_behind(policy, tmp_path, monkeypatch):
    def seal(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "seal", seal)
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        exported(policy, tmp_path / "deep" / "out")
    assert file_names(tmp_path / "deep") == []


def test_a_full_disk_keeps_the_policy_that_was_there(policy, tmp_path, monkeypatch):
    first = exported(policy, tmp_path / "out")

    def seal(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "seal", seal)
    with pytest.raises(DataError):
        exported(policy, tmp_path / "out", replace=True)
    assert verify(tmp_path / "out").digest == first.manifest.digest
