"""What a row takes of memory, and what is said where memory ran out."""

import pytest
import torch

from cai.errors import ConfigError
from cai.train import dpo, memory, reward
from cai.train.facts import ModelFacts
from tests.train.pairs import dpo_config, reward_config, rows, write
from tests.train.runs import resolved, sft_config


def test_both_sequences_of_a_pair_count(model_folder, tmp_path):
    """A place takes 34 × 2 bytes per hidden value and layer in float32: 8 rows of 100, twice."""
    facts = ModelFacts.of(model_folder)
    per_place = 34 * 2 * facts.hidden * facts.layers
    for make in (reward_config, dpo_config):
        config = resolved(make(tmp_path, model_folder, tmp_path))
        found = memory.estimate(facts, config, length=100)
        assert found.activations == 8 * 2 * 100 * per_place
    one = resolved(sft_config(tmp_path, tmp_path, model_folder, batch_size=8))
    assert memory.estimate(facts, one, length=100).activations == 8 * 100 * per_place


@pytest.mark.parametrize(("module", "make"), [(dpo, dpo_config), (reward, reward_config)])
def test_long_pairs_are_refused_before_training(model_folder, tmp_path, monkeypatch, module, make):
    """All 8 sequences of 64 tokens would fit, and 16 of about 140 do not."""
    values = rows(16)
    for row in values:
        row["chosen"][-1]["content"] += " boil" * 120
    config = make(tmp_path, model_folder, write(tmp_path / "pairs.jsonl", values))
    facts = ModelFacts.of(model_folder)
    fits = memory.estimate(facts, resolved(config)).total
    monkeypatch.setattr(memory, "available_memory", lambda: fits)
    with pytest.raises(ConfigError, match="are free; train adapters"):
        module.run(config)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
        RuntimeError("DefaultCPUAllocator: no memory. You asked for 2.00 GiB. Error code 12"),
    ],
)
def test_memory_that_ran_out_is_told_with_ways_out(tmp_path, error):
    config = sft_config(tmp_path, tmp_path, tmp_path, micro_batch_size=2)
    with (
        pytest.raises(ConfigError, match=r"2\.00 GiB; train adapters .*lower micro_batch_size"),
        memory.told_when_full(config),
    ):
        raise error


def test_another_error_passes_as_it_is(tmp_path):
    with (
        pytest.raises(RuntimeError, match="shapes"),
        memory.told_when_full(sft_config(tmp_path, tmp_path, tmp_path)),
    ):
        raise RuntimeError("shapes do not fit")


def full(*_args, **_more):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_reference_that_does_not_fit_is_told_with_ways_out(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(dpo, "open_watch", full)
    with pytest.raises(ConfigError, match="memory ran out in training"):
        dpo.run(dpo_config(tmp_path, model_folder, write(tmp_path / "pairs.jsonl", rows(16))))
