"""DPO: its losses against TRL's, what it learns and reports, adapters, the distance it keeps."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl import DPOConfig as DpoArguments
from trl import DPOTrainer

from cai.errors import ConfigError, DataError, JudgeError
from cai.policy.manifest import verify
from cai.train import soft_dpo_trainer
from cai.train.base import load_policy
from cai.train.config import DpoConfig
from cai.train.curves import read_curves
from cai.train.dpo import PairTrainer, _warn_if_both_fell, run
from cai.train.dpo_watch import Judging
from cai.train.drift import AnswerIds, Drift, exact_kl
from cai.train.encode import Fit
from cai.train.pairs_data import AnswerCollator, SoftAnswerCollator, answers_dataset, encode_pairs
from cai.train.rows import Pair
from cai.train.session import Trained
from cai.train.soft_dpo_trainer import JudgedPair, both_fell, preference_report
from cai.train.state import SavedState, saved_states
from cai.train.watch import WinRate
from cai.types import Message
from tests.server.helpers import make_store
from tests.train.pairs import dpo_config, rows, tensors, write, write_reward_model
from tests.train.runs import without_template

TIES = "rules:\n  - scores: {A: -0.7, B: -0.7}\n"
PAIRS = [
    Pair("1", (Message("user", "quick?"),), "fox and dog", "lazy", 0.8),
    Pair("2", (Message("user", "boil?"),), "seven", "quick brown", 0.6),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Any:
    root = tmp_path_factory.mktemp("dpo")
    data = write(root / "pairs.jsonl", rows(64))
    return run(dpo_config(root, model_folder, data))


def test_a_small_model_takes_larger_steps() -> None:
    """1e-6 × (7e9 / 1.318e6)^(2/3) = 3.05e-4, and 1e-6 at 7B."""
    config = DpoConfig(data=(Path("d"),), name="p", run_dir=Path("r"), out=Path("o"))
    rates = [config.resolved(size).learning_rate for size in (1_318_272, 7_000_000_000)]
    assert rates == pytest.approx([3.0e-4, 1.0e-6], rel=0.05)


def test_it_learns_which_answer_is_better(trained: Any) -> None:
    assert trained.metrics["eval_rewards/accuracies"] == 1.0
    assert trained.metrics["eval_rewards/margins"] > 1


def test_with_the_sft_term_the_chosen_answers_become_likelier(trained: Any) -> None:
    assert trained.metrics["eval_logps/chosen"] > trained.metrics["eval_logps/ref_chosen"]
    assert trained.metrics["eval_both_fell"] == 0


def test_the_curves_have_margins_log_probs_and_the_distance(trained: Any) -> None:
    curves = read_curves(trained.folder.parent / "run")
    seen = [row for row in curves if "eval_kl" in row]
    assert len(seen) >= 2
    wanted = ("rewards/margins", "logps/chosen", "logps/rejected", "rewards/accuracies", "loss")
    assert all(f"eval_{name}" in seen[-1] for name in wanted)
    assert any("rewards/margins" in row for row in curves)
    assert 0 < seen[0]["eval_kl_per_token"] < seen[0]["eval_kl"]


def test_answers_to_held_out_prompts_are_watched(trained: Any) -> None:
    curves = read_curves(trained.folder.parent / "run")
    seen = [row for row in curves if "watch/kl" in row]
    assert seen[-1]["watch/kl"] == seen[-1]["eval_kl"]
    assert seen[-1]["watch/sqrt_kl"] == pytest.approx(seen[-1]["eval_kl"] ** 0.5)
    assert seen[-1]["watch/proxy_reward"] == seen[-1]["eval_rewards/margins"]
    assert {"watch/length", "watch/refusals", "watch/entropy"} <= seen[-1].keys()
    report = json.loads((trained.folder.parent / "run" / "watch.json").read_text())
    assert report["num_evaluations"] == len(seen)
    assert report["stopped_because"] is None


def test_a_run_stops_at_its_kl_budget(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", rows(64))
    watch = {"kl_budget": 0.5}
    config = dpo_config(tmp_path, model_folder, data, watch=watch, epochs=4, evals_per_epoch=4)
    found = run(config)
    done = json.loads((tmp_path / "run" / "DONE").read_text())
    assert "the budget 0.5" in done["stopped_because"]
    curves = read_curves(tmp_path / "run")
    seen = {row["step"]: row for row in curves if "watch/kl" in row}
    assert max(seen) < 4 * 7
    assert seen[max(seen)]["watch/kl"] > 0.5
    assert seen[max(seen)]["eval_loss"] == min(row["eval_loss"] for row in seen.values())
    best = found.metrics["best_step"]
    assert found.metrics["eval_kl"] == seen[best]["watch/kl"] <= 0.5
    assert json.loads((tmp_path / "run" / "watch.json").read_text())["best_step"] == best


async def test_weights_are_kept_where_the_judge_liked_them_best(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Win rates 0.9, 0.9, then 0.1, each of 100: two windows of two, seen twice, are a decline.

    Two epochs at two validations each would end before it can be told, with defaults.
    """
    rates = iter([0.9, 0.9, *[0.1] * 20])
    monkeypatch.setattr(Judging, "win_rate", lambda _self, _texts: WinRate(next(rates), 100))
    data = write(tmp_path / "pairs.jsonl", rows(64))
    config = dpo_config(tmp_path, model_folder, data, **judged(tmp_path, monkeypatch))
    found = await asyncio.to_thread(run, config)
    done = json.loads((tmp_path / "run" / "DONE").read_text())
    assert "the judge's win rate fell from 0.900" in done["stopped_because"]
    curves = read_curves(tmp_path / "run")
    seen = [row for row in curves if "watch/win_rate" in row]
    assert [row["watch/win_rate"] for row in seen] == [0.9, 0.9, 0.1, 0.1, 0.1]
    assert found.metrics["best_step"] == seen[1]["step"]
    assert found.metrics["eval_loss"] == seen[1]["eval_loss"] > seen[-1]["eval_loss"]
    report = json.loads((tmp_path / "run" / "watch.json").read_text())
    assert report["best_step"] == seen[1]["step"]
    kept = saved_states(tmp_path / "run" / "checkpoints")
    assert [state.step for state in kept] == [seen[1]["step"], seen[-1]["step"]]
    stored = load_file(kept[0].folder / "model.safetensors")
    exported = tensors(found.folder)
    assert all(torch.equal(stored[name].to(made.dtype), made) for name, made in exported.items())


async def test_a_judge_that_does_not_answer_is_told_before_training(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "pairs.jsonl", rows(32))
    script = "rules:\n  - scores: {A: -20.0, B: -20.0}\n"
    more = judged(tmp_path, monkeypatch, script=script)
    with pytest.raises(JudgeError):
        await asyncio.to_thread(run, dpo_config(tmp_path, model_folder, data, **more))
    assert not read_curves(tmp_path / "run")


async def test_the_judge_compares_with_the_references_answers(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge without a favourite: every verdict is a tie, so the win rate is one half."""
    data = write(tmp_path / "pairs.jsonl", rows(32))
    config = dpo_config(tmp_path, model_folder, data, **judged(tmp_path, monkeypatch))
    await asyncio.to_thread(run, config)
    seen = [row for row in read_curves(tmp_path / "run") if "watch/win_rate" in row]
    assert seen[-1]["watch/win_rate"] == 0.5
    assert seen[-1]["watch/judge_n"] + seen[-1]["watch/no_verdicts"] == 4


def test_the_reference_stays_what_training_began_from(trained: Any) -> None:
    curves = read_curves(trained.folder.parent / "run")
    found = {row["eval_logps/ref_chosen"] for row in curves if "eval_logps/ref_chosen" in row}
    assert len(found) == 1


def test_it_is_sealed_as_a_policy_with_probes(trained: Any) -> None:
    manifest = verify(trained.folder)
    assert (manifest.kind, manifest.method) == ("full", "dpo")
    assert len(manifest.probes) == 4
    assert manifest.config["beta"] == 0.3


def test_adapters_are_merged_and_no_copy_of_them_stays(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", rows(48))
    lora = {"rank": 4, "alpha": 8.0}
    config = dpo_config(tmp_path, model_folder, data, lora=lora, learning_rate=4e-3)
    found = run(config)
    assert found.metrics["eval_rewards/accuracies"] == 1.0
    assert found.metrics["eval_kl"] > 0
    assert not any("lora" in name for name in tensors(found.folder))
    assert not list((tmp_path / "run" / "checkpoints").glob("*/ref"))


@pytest.mark.parametrize(("fell", "num_warnings"), [(1.0, 1), (0.0, 0)])
def test_both_falling_is_a_warning(
    caplog: pytest.LogCaptureFixture, fell: float, num_warnings: int
) -> None:
    row = {"step": 3, "eval_both_fell": fell, "eval_logps/chosen": -30.0}
    row |= {"eval_logps/ref_chosen": -20.0, "eval_logps/rejected": -60.0}
    row |= {"eval_logps/ref_rejected": -25.0}
    with caplog.at_level(logging.WARNING, logger="cai.train.dpo"):
        _warn_if_both_fell(Trained(SavedState(3, Path("checkpoint-3")), [row]))
    assert caplog.text.count("(-10.0 and -35.0 nats)") == num_warnings


@pytest.mark.parametrize("terms", [["sigmoid"], ["sigmoid_norm"], ["sigmoid", "sft"]])
def test_the_loss_of_hard_labels_is_that_of_trl(
    tmp_path: Path, model_folder: Path, terms: list[str]
) -> None:
    """One pair, so that TRL's mean over tokens is ours; the policy is moved off the reference."""
    policy, ours = make_trainer(tmp_path, model_folder, terms, PAIRS[:1], soft_labels=False)
    theirs = DPOTrainer(
        model=policy.model, args=ours.args, train_dataset=text_dataset(),
        data_collator=AnswerCollator(pad_token_id=policy.encoder.pad_id),
        processing_class=policy.tokenizer,
    )  # fmt: skip
    batch = ours.data_collator([ours.train_dataset[0]])
    nudge(policy.model)
    losses, slopes = [], []
    for trainer in (theirs, ours):
        given = dict(batch)
        if trainer is theirs:
            given = {n: v for n, v in batch.items() if n.startswith(("ref", "input", "attention"))}
            given["completion_mask"] = batch["completion_mask"]
        policy.model.zero_grad()
        loss = trainer.compute_loss(policy.model, given)
        loss.backward()
        losses.append(loss.item())
        slopes.append(policy.model.lm_head.weight.grad.clone())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_a_soft_label_is_the_mixture_of_the_pair_and_its_swap(
    tmp_path: Path, model_folder: Path
) -> None:
    policy, trainer = make_trainer(tmp_path, model_folder, ["sigmoid"], PAIRS)
    rows_ = [trainer.train_dataset[0], trainer.train_dataset[1]]
    swaps = {"chosen": "rejected", "rejected": "chosen"}
    names = {f"{kind}_ids": f"{other}_ids" for kind, other in swaps.items()}
    names |= {f"ref_{kind}_logps": f"ref_{other}_logps" for kind, other in swaps.items()}
    nudge(policy.model)

    def loss_of(p: list[float], *, swapped: bool) -> float:
        given = [
            {name: row[names.get(name, name) if swapped else name] for name in row}
            | {"p_chosen": 1.0, "weight": weight}
            for row, weight in zip(rows_, p, strict=True)
        ]
        with torch.no_grad():
            return float(trainer.compute_loss(policy.model, trainer.data_collator(given)))

    with torch.no_grad():
        soft = trainer.compute_loss(policy.model, trainer.data_collator(rows_)).item()
    mixture = loss_of([0.8, 0.6], swapped=False) + loss_of([0.2, 0.4], swapped=True)
    assert soft == pytest.approx(mixture, rel=1e-5)


def test_before_training_the_loss_is_log_two(tmp_path: Path, model_folder: Path) -> None:
    policy, trainer = make_trainer(tmp_path, model_folder, ["sigmoid"], PAIRS)
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    with torch.no_grad():
        loss = trainer.compute_loss(policy.model, batch).item()
    assert loss == pytest.approx(math.log(2), abs=1e-4)


def test_all_processes_read_the_reference_from_the_main_ones_file(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_dpo_trainer, "from_main", lambda _make: str(tmp_path / "main.arrow"))
    _, trainer = make_trainer(tmp_path, model_folder, ["sigmoid"], PAIRS)
    assert (tmp_path / "main.arrow").exists()
    assert {"ref_chosen_logps", "chosen_ids"} <= set(trainer.train_dataset.column_names)


def test_terms_without_a_soft_form_are_refused(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="hinge"):
        make_trainer(tmp_path, model_folder, ["hinge"], PAIRS)


def test_a_policy_is_no_distance_from_itself(tmp_path: Path, model_folder: Path) -> None:
    config = dpo_config(tmp_path, model_folder, tmp_path / "none.jsonl")
    model = load_policy(str(model_folder), config).model
    drift = Drift(model, [AnswerIds([5, 6, 7, 8], 2), AnswerIds([9, 10, 11], 1)])
    assert drift(model) == pytest.approx({"kl": 0.0, "kl_per_token": 0.0}, abs=1e-6)
    assert model.training
    nudge(model)
    moved = drift(model)
    assert moved["kl"] == pytest.approx(2 * moved["kl_per_token"])  # 4 tokens in 2 answers
    assert moved["kl"] > 1e-3


def test_the_distance_is_that_of_the_answers_places(tmp_path: Path, model_folder: Path) -> None:
    """Against a sum over the vocabulary at the two places that predict the answer's tokens."""
    config = dpo_config(tmp_path, model_folder, tmp_path / "none.jsonl")
    model = load_policy(str(model_folder), config).model
    ids = torch.tensor([[5, 6, 7, 8]])
    drift = Drift(model, [AnswerIds(ids[0].tolist(), 2)])
    with torch.no_grad():
        before = model(input_ids=ids).logits[0, 1:3].double().log_softmax(-1)
        nudge(model)
        after = model(input_ids=ids).logits[0, 1:3].double().log_softmax(-1)
    expected = (after.exp() * (after - before)).sum().item()
    assert drift(model)["kl"] == pytest.approx(expected, rel=1e-3)


def test_exact_kl_worked_by_hand() -> None:
    """π = (0.5, 0.5), π_ref = (0.25, 0.75): 0.5 ln 2 + 0.5 ln(2/3) = 0.143841."""
    policy = torch.tensor([[0.5, 0.5]]).log()
    reference = torch.tensor([[0.25, 0.75]]).log()
    assert exact_kl(policy, reference).tolist() == pytest.approx([0.143841], abs=1e-6)


def test_a_token_that_is_ruled_out_adds_nothing_to_the_kl() -> None:
    """π = (1, 0), π_ref = (0.5, 0.5): ln 2; and of two that rule out the same one, 0."""
    ruled_out = torch.tensor([[1.0, 0.0]]).log()
    half = torch.tensor([[0.5, 0.5]]).log()
    assert exact_kl(ruled_out, half).item() == pytest.approx(math.log(2))
    assert exact_kl(ruled_out, ruled_out).item() == 0.0


def test_figures_worked_by_hand() -> None:
    """β = 0.5: rewards 1 and -0.5, then -1 and 0; the second label prefers the rejected answer."""
    pairs = [
        JudgedPair(-8.0, -11.0, -10.0, -10.0, 1.0),
        JudgedPair(-12.0, -10.0, -10.0, -10.0, 0.2),
    ]
    found = preference_report(pairs, beta=0.5)
    assert found["rewards/chosen"] == pytest.approx(0.0)
    assert found["rewards/rejected"] == pytest.approx(-0.25)
    assert found["rewards/margins"] == pytest.approx((1.5 - 1.0) / 2)
    assert found["rewards/accuracies"] == 1.0
    assert found["logps/chosen"] == -10.0
    assert not both_fell(found)
    assert both_fell(preference_report([JudgedPair(-12, -13, -10, -10, 1.0)], beta=0.5))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "holds no pairs"),
        (rows(1) * 3, "the same prompt"),
        ([{**rows(1)[0], "rejected": rows(1)[0]["chosen"]}], "equals"),
        ([{**rows(1)[0], "p_chosen": float("nan")}], "p_chosen"),
    ],
)
def test_data_that_will_not_do_is_told_before_training(
    tmp_path: Path, model_folder: Path, values: list[Any], words: str
) -> None:
    data = write(tmp_path / "x.jsonl", values)
    with pytest.raises(DataError, match=words):
        run(dpo_config(tmp_path, model_folder, data))


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path, model_folder: Path) -> None:
    bare = without_template(model_folder, tmp_path / "bare")
    data = write(tmp_path / "pairs.jsonl", rows(8))
    with pytest.raises(ConfigError, match="no chat template"):
        run(dpo_config(tmp_path, bare, data))


def test_a_reward_model_is_no_policy_to_train(tmp_path: Path, model_folder: Path) -> None:
    folder = write_reward_model(tmp_path / "rm", model_folder)
    data = write(tmp_path / "pairs.jsonl", rows(8))
    with pytest.raises(ConfigError, match="reward model"):
        run(dpo_config(tmp_path, folder, data))


def judged(root: Path, monkeypatch: pytest.MonkeyPatch, *, script: str = TIES) -> dict[str, str]:
    """Settings of a judge that answers by a script, and its constitution."""
    make_store(root / "constitutions")
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(root / "constitutions"))
    (root / "judge.yaml").write_text(script)
    return {"judge": f"scripted:{root / 'judge.yaml'}", "constitution": "toy@1"}


def make_trainer(
    root: Path, model: Path, terms: list[str], pairs: list[Pair], *, soft_labels: bool = True
) -> tuple[Any, Any]:
    policy = load_policy(str(model), dpo_config(root, model, root / "none.jsonl"))
    encoded = encode_pairs(pairs, policy.encoder, Fit(64), soft_labels=soft_labels)
    args = DpoArguments(
        output_dir=str(root), bf16=False, use_cpu=True, report_to="none", max_length=None, beta=0.5,
        gradient_checkpointing=False, disable_tqdm=True, precompute_ref_log_probs=True,
        loss_type=terms,
    )  # fmt: skip
    trainer = PairTrainer(
        model=policy.model, args=args, train_dataset=answers_dataset([one for _, one in encoded]),
        data_collator=SoftAnswerCollator(pad_token_id=policy.encoder.pad_id),
        processing_class=policy.tokenizer,
    )  # fmt: skip
    return policy, trainer


def text_dataset() -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"prompt": ["quick?"], "chosen": ["fox"], "rejected": ["dog"]})


def nudge(model: Any) -> None:
    """Moves every weight a little, the same way each time."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
