"""Models before training: what is refused unread, in what precision they come, what learns."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.errors import ConfigError, NotFoundError, PolicyError
from cai.policy.manifest import seal
from cai.train import memory
from cai.train.base import (
    check_same_tokenizer,
    load_frozen,
    load_policy,
    load_reward_model,
    load_saved,
    load_tokenizer,
    prepare,
)
from cai.train.export import export_policy
from cai.train.facts import ModelFacts, locate
from cai.train.pairs_data import EncodedPair
from cai.train.reward import reward_probes
from cai.train.scorer import RewardScorer
from tests.tiny_model import make_tokenizer
from tests.train.runs import sft_config

# 2 layers of 4·128² and 3·128·256 and two norms, a last norm, embedding and head of VOCABULARY.
VOCABULARY = 355
SIZE = 2 * (4 * 128**2 + 3 * 128 * 256 + 2 * 128) + 128 + 2 * VOCABULARY * 128


@pytest.fixture
def copy(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def config(tmp_path, **more):
    return sft_config(tmp_path, tmp_path / "data", tmp_path, **more)


def load(folder, tmp_path, **more):
    return load_policy(str(folder), config(tmp_path, **more))


def test_trained_weights_are_in_float32_and_stored_as_they_were(model_folder, tmp_path):
    policy = load(model_folder, tmp_path)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    assert policy.dtype == torch.bfloat16
    assert policy.model.training
    assert policy.config.learning_rate == 1.3e-3  # 1e-5 · √(7e9 / SIZE), resolved
    assert policy.num_trained == policy.facts.num_parameters == SIZE


def test_adapters_learn_and_nothing_else(model_folder, tmp_path):
    """Rank 2 on 7 matrices of 2 layers: 2·2·(4·(128+128) + 3·(128+256)) = 8,704."""
    policy = load(model_folder, tmp_path, lora={"rank": 2})
    learns = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in learns)
    assert policy.num_trained == 8704


def test_an_unknown_adapter_target_is_refused(model_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"lora\.targets"):
        load(model_folder, tmp_path, lora={"targets": ("no_such_layer",)})


def test_a_reward_model_has_one_output_and_a_head_drawn_by_the_seed(model_folder, tmp_path):
    heads = [
        load_reward_model(str(model_folder), config(tmp_path, seed=seed)).model.score.weight
        for seed in (1, 1, 2)
    ]
    assert heads[0].shape == (1, 128)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_reward_model_knows_its_end_token_from_a_generation_config(copy, tmp_path):
    """A classifier is saved without generation_config.json, so its config has to say it."""
    config_file = copy / "config.json"
    values = json.loads(config_file.read_text())
    end = values.pop("eos_token_id")
    config_file.write_text(json.dumps({**values, "eos_token_id": None}))
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    policy = load_reward_model(str(copy), config(tmp_path))
    policy.model.save_pretrained(tmp_path / "checkpoint")
    model = load_saved(policy, tmp_path / "checkpoint")
    pair = EncodedPair([5, 6], [7], [8], 1.0)
    export_policy(
        model,
        load_tokenizer(copy),
        tmp_path / "rm",
        dtype=torch.float32,
        name="rm",
        kind="reward",
        method="reward",
        base="tiny",
        reward_probes=reward_probes(model, [pair], num=2, seed=0),
    )
    assert not (tmp_path / "rm" / "generation_config.json").exists()
    assert load_reward_model(str(tmp_path / "rm"), config(tmp_path)).encoder.end_id == end
    assert RewardScorer.load(tmp_path / "rm", device="cpu").name == "rm"


def test_a_frozen_model_learns_nothing(model_folder):
    model = load_frozen(AutoModelForCausalLM, model_folder)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_code_in_the_folder_is_refused(copy, tmp_path):
    (copy / "modeling.py").write_text("x = 1")
    with pytest.raises(ConfigError, match="code or pickled data"):
        load(copy, tmp_path)


def test_a_base_without_a_chat_template_is_refused(copy, tmp_path):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        load(copy, tmp_path)


def test_a_template_that_never_ends_is_refused(copy, tmp_path):
    bomb = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}"
    (copy / "chat_template.jinja").write_text(bomb)
    with pytest.raises(ConfigError, match="too much time or memory"):
        prepare(str(copy), config(tmp_path))


def test_torn_weights_are_refused(copy, tmp_path):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PolicyError, match=r"model\.safetensors"):
        load(copy, tmp_path)


def test_an_unknown_policy_is_told_what_there_is(tmp_path):
    with pytest.raises(NotFoundError, match="sandbx"):
        locate("sandbx", tmp_path)
    assert (locate("sandbox", tmp_path) / "config.json").exists()


def test_another_tokenizer_is_refused(model_folder):
    own = AutoTokenizer.from_pretrained(model_folder)
    check_same_tokenizer(own, AutoTokenizer.from_pretrained(model_folder), what="it")
    with pytest.raises(ConfigError, match="the reward model has another tokenizer"):
        check_same_tokenizer(own, make_tokenizer(vocab_size=320), what="the reward model")


def test_a_policy_of_ours_is_verified_and_becomes_the_parent(copy, tmp_path):
    sealed = seal(
        copy, name="first", kind="full", method="sft", base="base", base_digest="sha256:b"
    )
    facts = ModelFacts.of(copy)
    assert facts.lineage() == {
        "base": "base",
        "base_digest": "sha256:b",
        "parent": "first",
        "parent_digest": sealed.digest,
    }
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    with pytest.raises(PolicyError, match=r"config\.json changed"):
        ModelFacts.of(copy)


def test_a_foreign_model_is_a_base(model_folder):
    facts = ModelFacts.of(model_folder)
    assert facts.lineage() == {"base": model_folder.name, "base_digest": facts.digest}
    assert (facts.hidden, facts.layers, facts.context) == (128, 2, 512)


def test_an_adapter_cannot_be_the_base(copy):
    seal(copy, name="a", kind="full", method="sft", base="b")
    found = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**found, "kind": "lora"}))
    with pytest.raises(ConfigError, match="an adapter cannot be trained on"):
        ModelFacts.of(copy)


def test_memory_counts_sixteen_bytes_a_trained_parameter(model_folder, tmp_path):
    facts = ModelFacts.of(model_folder)
    whole = memory.estimate(facts, config(tmp_path).resolved(facts.num_parameters))
    assert whole.state == 16 * SIZE
    lora = config(tmp_path, lora={"rank": 1}).resolved(facts.num_parameters)
    assert memory.estimate(facts, lora).state == 4 * SIZE + 16 * 2 * 128 * 7 * 2


def test_too_little_memory_is_refused_with_ways_out(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 4_000_000)
    with pytest.raises(ConfigError, match=r"--set lora=true, or set gradient_checkpointing"):
        prepare(str(model_folder), config(tmp_path))
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    prepare(str(model_folder), config(tmp_path))


def test_too_little_disk_is_refused(model_folder, tmp_path, monkeypatch):
    facts = ModelFacts.of(model_folder)
    memory.check_disk(facts, config(tmp_path))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: full)
    with pytest.raises(ConfigError, match="make room, or set run_dir elsewhere"):
        memory.check_disk(facts, config(tmp_path))


def test_processes_that_do_not_share_the_batch_are_told(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="no multiple of the 3 processes"):
        prepare(str(model_folder), config(tmp_path))
