"""The reward model: its loss against TRL's, what it learns, what it reports and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import RewardConfig as RewardArguments
from trl import RewardTrainer

from cai.errors import ConfigError, DataError
from cai.policy.manifest import verify
from cai.train.base import load_reward_model
from cai.train.encode import Fit
from cai.train.pairs_data import SoftSequenceCollator, encode_pairs, sequences_dataset
from cai.train.reward import PairTrainer, begin_head, run
from cai.train.rows import Pair
from cai.train.scorer import RewardScorer
from cai.train.soft_reward_trainer import ScoredPair, accuracy, reward_report
from cai.train.sources import load_pairs
from cai.types import Message
from tests.train.pairs import reward_config, rows, tensors, write
from tests.train.runs import without_template

ASK = (Message("user", "quick?"),)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Any:
    root = tmp_path_factory.mktemp("reward")
    data = write(root / "pairs.jsonl", rows(96))
    return run(reward_config(root, model_folder, data, epochs=2))


def test_it_learns_which_answer_is_better(trained: Any) -> None:
    assert trained.metrics["eval_accuracy"] == 1.0
    assert trained.metrics["eval_margin"] > 2
    assert trained.metrics["eval_brier"] < 0.05


def test_it_reports_calibration_level_and_length(trained: Any) -> None:
    wanted = {"calibration_error", "mean_reward", "std_reward", "length_spearman", "loss"}
    assert {f"eval_{name}" for name in wanted} <= trained.metrics.keys()
    assert abs(trained.metrics["eval_mean_reward"]) < trained.metrics["eval_std_reward"]
    assert trained.metrics["eval_length_spearman"] > 0.5  # the better answer is the longer one here


def test_it_is_sealed_as_a_reward_model_with_rewards_to_replay(trained: Any) -> None:
    manifest = verify(trained.folder)
    assert (manifest.kind, manifest.method) == ("reward", "reward")
    assert manifest.probes == ()
    assert len(manifest.reward_probes) == 4
    assert manifest.tensors["score.weight"].shape == (1, 128)
    assert manifest.data[0].num_rows == 96
    assert not list(trained.folder.glob("*.bin"))


def test_its_folder_scores_as_the_trainer_did(trained: Any) -> None:
    scorer = RewardScorer.load(trained.folder)
    probes = trained.manifest.reward_probes
    assert scorer.score([probe.ids for probe in probes]) == pytest.approx(
        [probe.reward for probe in probes], abs=1e-4
    )


def test_a_finished_run_is_not_run_again(trained: Any, model_folder: Path) -> None:
    root = trained.folder.parent
    again = run(reward_config(root, model_folder, root / "pairs.jsonl", epochs=2))
    assert again.manifest == trained.manifest


def test_soft_labels_are_learned_as_probabilities(tmp_path: Path, model_folder: Path) -> None:
    """p = 0.75 everywhere: Δ goes to log 3 = 1.0986 and stays, where hard labels go on."""
    data = write(tmp_path / "pairs.jsonl", rows(64, p_chosen=0.75))
    soft = run(reward_config(tmp_path / "soft", model_folder, data, epochs=4))
    hard = run(reward_config(tmp_path / "hard", model_folder, data, epochs=4, soft_labels=False))
    assert soft.metrics["eval_margin"] == pytest.approx(1.0986, abs=0.15)
    assert soft.metrics["eval_calibration_error"] < 0.05
    assert hard.metrics["eval_margin"] > 2


def test_adapters_are_merged_into_one_folder(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", rows(64))
    lora = {"rank": 4, "alpha": 8.0}
    found = run(
        reward_config(tmp_path, model_folder, data, lora=lora, learning_rate=2e-3, epochs=2)
    )
    assert found.metrics["eval_accuracy"] == 1.0
    assert found.manifest.kind == "reward"
    names = set(tensors(found.folder))
    assert "score.weight" in names
    assert not any("lora" in name for name in names)
    RewardScorer.load(found.folder)


def test_a_dry_run_shows_rows_and_writes_nothing(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path / "data" / "pairs.jsonl", rows(20))
    preview = run(reward_config(tmp_path / "x", model_folder, data), dry_run=True)
    assert len(preview.samples) == 3
    assert preview.samples[0][-1].text == "<|im_end|>"
    assert preview.samples[0][-1].is_learnt
    assert not (tmp_path / "x").exists()


def test_the_loss_of_hard_labels_is_that_of_trl(tmp_path: Path, model_folder: Path) -> None:
    """Weights 1, no margin, the same centring: one batch, both losses and their gradients."""
    config = reward_config(tmp_path, model_folder, tmp_path / "none.jsonl")
    policy = load_reward_model(str(model_folder), config)
    pairs = [
        Pair("1", ASK, "fox and dog", "lazy"),
        Pair("2", (Message("user", "boil?"),), "seven", "quick brown"),
    ]
    encoded = [pair for _, pair in encode_pairs(pairs, policy.encoder, Fit(64))]
    args = RewardArguments(
        output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to="none", max_length=None,
        center_rewards_coefficient=0.1, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    collator = SoftSequenceCollator(pad_token_id=policy.encoder.pad_id)
    dataset = sequences_dataset(encoded)
    losses, slopes = [], []
    for kind in (RewardTrainer, PairTrainer):
        trainer = kind(
            model=policy.model, args=args, data_collator=collator, train_dataset=dataset,
            processing_class=policy.tokenizer,
        )  # fmt: skip
        batch = collator([dataset[0], dataset[1]])
        if kind is RewardTrainer:
            batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
        policy.model.zero_grad()
        loss = trainer.compute_loss(policy.model, batch)
        loss.backward()
        losses.append(loss.item())
        slopes.append(policy.model.score.weight.grad.clone())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(*slopes)


def test_no_column_has_a_name_that_trl_reads_by_itself(model_folder: Path, tmp_path: Path) -> None:
    config = reward_config(tmp_path, model_folder, tmp_path / "none.jsonl")
    policy = load_reward_model(str(model_folder), config)
    pair = Pair("1", ASK, "fox", "dog", p_chosen=0.75)
    (_, encoded) = encode_pairs([pair], policy.encoder, Fit(64), margin=2.0)[0]
    assert encoded.label_margin == 1.0
    assert "margin" not in sequences_dataset([encoded]).column_names


def test_a_ranking_counts_as_much_as_one_pair(tmp_path: Path, model_folder: Path) -> None:
    """4 answers in order give 6 pairs; with one pair beside them each prompt weighs 3.5 of 7."""
    ranking = {"prompt": "quick?", "outputs": ["a", "b", "c", "d"], "ranking": "A > B > C > D"}
    data = write(tmp_path / "r.jsonl", [ranking, *rows(1)])
    loaded = load_pairs([data])
    config = reward_config(tmp_path, model_folder, data)
    policy = load_reward_model(str(model_folder), config)
    found = encode_pairs(loaded.rows, policy.encoder, Fit(64), per_prompt_weight=True)
    assert len(found) == 7
    assert [pair.weight for _, pair in found] == pytest.approx([3.5 / 6] * 6 + [3.5])


def test_a_row_that_prefers_the_second_answer_is_turned(tmp_path: Path, model_folder: Path) -> None:
    policy = load_reward_model(
        str(model_folder), reward_config(tmp_path, model_folder, tmp_path / "none.jsonl")
    )
    one, other = (
        encode_pairs([pair], policy.encoder, Fit(64))[0][1]
        for pair in (Pair("1", ASK, "fox", "dog", 0.25), Pair("1", ASK, "dog", "fox", 0.75))
    )
    assert one == other


def test_every_answer_has_the_same_reward_before_training(
    tmp_path: Path, model_folder: Path
) -> None:
    policy = load_reward_model(
        str(model_folder), reward_config(tmp_path, model_folder, tmp_path / "none.jsonl")
    )
    begin_head(policy)
    with torch.no_grad():
        rewards = policy.model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]])).logits
    assert rewards.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "holds no pairs"),
        (rows(1) * 3, "the same prompt"),
        ([{**rows(1)[0], "rejected": rows(1)[0]["chosen"]}], r"x\.jsonl:1: .*equals"),
        ([{**rows(1)[0], "p_chosen": float("nan")}], r"x\.jsonl:1: .*p_chosen"),
        ([{**rows(1)[0], "p_chosen": 1.5}], r"x\.jsonl:1: .*p_chosen"),
        (rows(4, weight=0.0), "weight 0"),
        ([{"prompt": "a"}], r"x\.jsonl:1"),
    ],
)
def test_data_that_will_not_do_is_told_before_training(
    tmp_path: Path, model_folder: Path, values: list[Any], words: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    with pytest.raises(DataError, match=words):
        run(reward_config(tmp_path, model_folder, path))
    assert not (tmp_path / "out").exists()


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path, model_folder: Path) -> None:
    bare = without_template(model_folder, tmp_path / "bare")
    data = write(tmp_path / "pairs.jsonl", rows(8))
    with pytest.raises(ConfigError, match="no chat template"):
        run(reward_config(tmp_path, bare, data))


def test_figures_worked_by_hand() -> None:
    """Δ = 2 and -1 and 0, labels 1, 1, 0.5: right once of two; Brier (0.0142 + 0.5344 + 0) / 3."""
    pairs = [
        ScoredPair(2.0, 0.0, 1.0, 4, 2),
        ScoredPair(0.0, 1.0, 1.0, 3, 3),
        ScoredPair(5.0, 5.0, 0.5, 1, 1),
    ]
    found = reward_report(pairs)
    assert found["accuracy"] == 0.5
    assert found["brier"] == pytest.approx((0.014209 + 0.534447) / 3, abs=1e-6)
    assert found["margin"] == pytest.approx(1 / 3)
    assert found["mean_reward"] == pytest.approx(13 / 6)


def test_a_tie_is_half_right_and_an_undecided_label_does_not_count() -> None:
    assert accuracy([ScoredPair(1.0, 1.0, 1.0, 1, 1)]) == 0.5
    assert accuracy([ScoredPair(1.0, 0.0, 0.25, 1, 1)]) == 0.0
    assert accuracy([ScoredPair(1.0, 0.0, 0.5, 1, 1), ScoredPair(1.0, 0.0, 1.0, 1, 1)]) == 1.0
