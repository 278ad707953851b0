"""PPO's loop on a tiny model, sampled by torch: it learns, it logs, it exports, it refuses."""

from __future__ import annotations

import json
import logging
import math
import random
import shutil
import warnings
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest

from cai.errors import ConfigError, InputError
from cai.policy.manifest import seal, verify
from cai.train.curves import read_curves
from tests.train.ppo_runs import settings, write_models
from tests.train.runs import without_template

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' and accelerate's own, at import
    import torch
    from accelerate import tracking
    from accelerate.utils import LoggerType

    from cai.train import ppo, ppo_figures, ppo_parts, ppo_schedule
    from cai.train.ppo_state import PpoState
    from cai.train.rollouts import TorchRollouts, cut_episode
    from cai.train.watch import Watch

REWARD = {"name": "reward", "kind": "reward", "method": "reward", "base": "tiny"}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Any:
    """A run of 23 iterations, one of them the critic's warm-up; answers of three tokens."""
    folder = tmp_path_factory.mktemp("finished")
    config = settings(
        folder,
        models,
        epochs=80,
        max_new_tokens=3,
        rollout_size=64,
        batch_size=32,
        ppo_epochs=4,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
        kl_coef=0.01,
        reward_clip=None,
    )
    seen: list[Any] = []
    return config, ppo.run(config, progress=seen.append), read_curves(config.run_dir), seen


def test_the_reward_rises(finished):
    """By more than a third of its spread, which is six of its mean's deviations."""
    _, _, rows, _ = finished
    first, last = (sum(row["reward"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last > first + rows[0]["reward_std"] / 3


def test_the_policy_moves_from_its_reference_only_after_the_warm_up(finished):
    _, _, rows, _ = finished
    assert rows[0]["kl_answer"] == rows[1]["kl_answer"] == 0
    assert rows[0]["policy_loss"] == 0
    assert rows[0]["value_loss"] > 0
    assert rows[-1]["kl_answer_k3"] > 0


def test_each_iteration_logs_every_phase_and_figure(finished):
    config, _, rows, _ = finished
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    for name in (
        *("reward", "kl_token", "kl_answer", "length", "entropy", "kl_coef", "clip_share"),
        *("gap_mean_abs", "gap_max_abs", "gap_ratio", "push_max_abs_diff", "padding_share"),
        *("seconds_rollout", "seconds_reward", "seconds_assess", "seconds_update", "seconds_push"),
    ):
        assert all(name in row for row in rows), name
    assert {"eval_reward", "eval_kl_answer", "eval_length"} <= rows[-1].keys()
    assert rows[-1]["optimizer_steps"] == len(rows) * ppo_schedule.steps_of(config)


def test_torch_samples_what_the_trainer_computes(finished):
    """One policy in one precision: what is left is the order of additions."""
    _, _, rows, _ = finished
    assert max(row["gap_max_abs"] for row in rows) < 1e-4
    assert all(row["gap_ratio"] == pytest.approx(1, abs=1e-3) for row in rows)


def test_what_comes_out_is_a_sealed_policy(finished):
    config, made, _, _ = finished
    manifest = verify(config.out)
    assert manifest == made.manifest
    assert (manifest.method, manifest.kind, manifest.name) == ("ppo", "full", "tiny")
    assert len(manifest.probes) == 2
    assert "eval_reward" in manifest.metrics
    assert not list(config.out.glob("*.bin"))


def test_progress_is_told_each_iteration(finished):
    _, _, rows, seen = finished
    assert [one.step for one in seen] == [row["step"] for row in rows]
    assert seen[-1].step == seen[-1].num_steps


def test_a_finished_run_is_not_run_again(finished):
    config, made, rows, _ = finished
    assert ppo.run(config).manifest == made.manifest
    assert read_curves(config.run_dir) == rows


def test_a_dry_run_trains_nothing(tmp_path, models):
    config = settings(tmp_path, models)
    preview = ppo.run(config, dry_run=True)
    assert preview.plan.num_steps == math.ceil(4 * preview.plan.num_train / 16) * 4
    assert preview.tokens.num_learnt == 0
    assert preview.plan.steps_per_epoch == round(preview.plan.num_train / 16 * 4)
    assert not config.run_dir.exists()


def test_a_dry_run_says_when_it_validates_and_saves(tmp_path, models):
    """19 prompts, 4 an iteration of 2·⌈4/8⌉ steps: 4.75 iterations an epoch, 2.4 half of one."""
    given = {"rollout_size": 4, "saves_per_epoch": 1, "evals_per_epoch": 2}
    config = settings(tmp_path, models, **given)
    plan = ppo.run(config, dry_run=True).plan
    assert (plan.num_train, ppo_schedule.steps_of(config)) == (19, 2)
    assert (plan.eval_every, plan.save_every, plan.steps_per_epoch) == (2 * 2, 5 * 2, 10)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no prompts"),
        ([{"prompt": "Hello?"}], "same prompt"),
        ([{"prompt": "Hello?"}, {"prompt": 3}], "prompt"),
    ],
    ids=["empty", "one prompt", "no text"],
)
def test_data_that_will_not_do_is_told_before_training(tmp_path, models, rows, words):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = settings(tmp_path, models, data=(data,))
    with pytest.raises(InputError, match=words):
        ppo.run(config)
    assert not read_curves(config.run_dir)


def test_a_base_without_a_chat_template_is_refused(tmp_path, models):
    bare = without_template(models / "policy", tmp_path / "bare")
    with pytest.raises(ConfigError, match="no chat template"):
        ppo.run(settings(tmp_path, models, policy=str(bare)))


def test_a_reward_model_that_reads_less_than_an_episode_is_refused(tmp_path, models):
    short = tmp_path / "short"
    shutil.copytree(models / "reward", short)
    values = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**values, "max_position_embeddings": 64}))
    seal(short, **REWARD)
    with pytest.raises(ConfigError, match="reads 64 tokens and an episode may have 256"):
        ppo.run(settings(tmp_path, models, reward=str(short)))


class Tracker:
    """What accelerate asks of a tracker; keeps all it is told."""

    name, requires_logging_directory, main_process_only = "tensorboard", True, True
    made: ClassVar[list[Tracker]] = []

    def __init__(self, run_name: str, logging_dir: Any) -> None:
        self.at, self.rows, self.is_finished = (run_name, logging_dir), [], False
        self.made.append(self)

    def start(self) -> None:
        pass

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, values["reward"]))

    def finish(self) -> None:
        self.is_finished = True


def test_figures_go_to_the_trackers_of_report_to(tmp_path, models, monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Tracker)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    config = settings(tmp_path, models, epochs=2, report_to="tensorboard")
    ppo.run(config)
    (one,) = Tracker.made
    assert one.at == ("tiny", config.run_dir / "tracked")
    assert one.rows == [(row["step"], row["reward"]) for row in read_curves(config.run_dir)]
    assert one.is_finished


@pytest.mark.parametrize(("name", "words"), [("wandb", "not installed"), ("paper", "none of aim")])
def test_a_tracker_that_there_is_not_is_refused(tmp_path, models, monkeypatch, name, words):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(ConfigError, match=f"report_to: {name} is {words}"):
        ppo.run(settings(tmp_path, models, report_to=name))


def test_memory_that_runs_out_is_told_with_ways_out(tmp_path, models, monkeypatch):
    def full(*_args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(ppo, "open_parts", full)
    with pytest.raises(ConfigError, match=r"memory ran out .*, or begin from a smaller policy"):
        ppo.run(settings(tmp_path, models))


def test_a_kl_that_is_no_number_stops_the_run(tmp_path, models, monkeypatch):
    figures = {"kl_answer": math.nan, "reward": 1.0, "entropy": 1.0}
    monkeypatch.setattr(ppo, "sample", lambda *_: [])
    monkeypatch.setattr(ppo, "judged", lambda *_: ([], []))
    monkeypatch.setattr(ppo, "assess", lambda *_args, **_more: None)
    monkeypatch.setattr(ppo, "figures_of", lambda *_: figures)
    config = settings(tmp_path, models)
    parts: Any = MagicMock(config=config, judge=None)
    state = PpoState(kl_coef=0.1, iteration=3)
    ppo.validate(parts, state, Watch(config.watch))
    assert "not both finite" in (state.stopped_because or "")
    assert state.evaluations == [{"step": 3, "eval_reward": 1.0, "eval_entropy": 1.0}]


def test_prompts_come_in_endless_shuffled_passes(tmp_path, models):
    prompts: list[Any] = list(range(5))
    config = settings(tmp_path, models, rollout_size=3)
    drawn = [one for n in range(5) for one in ppo_schedule.prompts_of(prompts, n, config)]
    passes = [drawn[:5], drawn[5:10], drawn[10:15]]
    assert all(sorted(one) == prompts for one in passes)
    assert passes[0] != passes[1]


def test_an_episode_ends_at_its_first_end_token():
    found = cut_episode((1,), [5, 6, 2, 7], [-1.0, -2.0, -3.0, -4.0], {2})
    assert found.response_ids == (5, 6, 2)
    assert found.logprobs == (-1.0, -2.0, -3.0)
    assert found.has_ended
    assert not cut_episode((1,), [5, 6], [-1.0, -2.0], {2}).has_ended


def test_the_sampler_draws_from_the_policys_distribution(models):
    """First tokens of 2,000 episodes against the softmax: within 5 deviations for each token."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(models / "policy").eval()
    torch.manual_seed(0)
    prompt, num = (10, 11, 12), 2000
    episodes = TorchRollouts(model, end_ids={4}, max_rows=1000).sample([prompt] * num, max_tokens=1)
    with torch.no_grad():
        p = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([e.response_ids[0] for e in episodes]), minlength=len(p))
    assert ((counts - num * p).abs() < 5 * (num * p * (1 - p)).sqrt() + 1).all()


def test_prompts_of_different_length_are_sampled_as_if_alone(models):
    """Greedy: the same answers one by one and together, where shorter ones are padded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(models / "policy").eval()
    draw = random.Random(0)
    prompts = [tuple(draw.randrange(5, 300) for _ in range(n)) for n in (3, 9, 17)]
    rollouts = TorchRollouts(model, end_ids={4})
    together = rollouts.sample(prompts, max_tokens=6, greedy=True)
    for prompt, one in zip(prompts, together, strict=True):
        (alone,) = rollouts.sample([prompt], max_tokens=6, greedy=True)
        assert alone.response_ids == one.response_ids
        assert alone.logprobs == pytest.approx(one.logprobs, abs=1e-4)


def test_a_gap_between_engine_and_trainer_is_warned_about(finished, caplog):
    config, *_ = finished
    batch: Any = type("Batch", (), {})()
    batch.logprobs_BT = torch.tensor([[-1.0, -1.0]])
    batch.rollout_logprobs_BT = torch.tensor([[-1.2, -1.0]])
    batch.mask_BT = torch.tensor([[True, True]])
    with caplog.at_level(logging.WARNING):
        figures = ppo_figures.gap_of(batch, config)
    assert figures["gap_mean_abs"] == pytest.approx(0.1)
    assert "differ by 0.1000 nats" in caplog.text


def test_a_reward_model_of_another_tokenizer_is_refused(tmp_path, models):
    from tests.tiny_model import make_tokenizer

    other = tmp_path / "other"
    shutil.copytree(models / "reward", other)
    make_tokenizer(vocab_size=350).save_pretrained(other)
    seal(other, **REWARD)
    with pytest.raises(ConfigError, match="has another tokenizer than the policy"):
        ppo.run(settings(tmp_path, models, reward=str(other)))


def test_a_cap_that_leaves_no_room_for_a_prompt_is_refused(tmp_path, models):
    with pytest.raises(ConfigError, match="leaves no room for a prompt within 256 tokens"):
        ppo.run(settings(tmp_path, models, max_new_tokens=256))


def test_settings_that_do_not_go_together_are_refused(tmp_path, models):
    for given, message in (
        ({"reward": None}, "needs a reward model"),
        ({"reward": None, "judge": "sandbox"}, "needs a constitution"),
        ({"lora": {"merge": False}}, "ppo exports whole weights"),
    ):
        with pytest.raises(ValueError, match=message):
            settings(tmp_path, models, **given)


def test_a_remote_reward_gives_a_value_model_that_begins_at_zero(tmp_path, models):
    from cai.train.base import load_policy

    config = settings(tmp_path, models, reward="http://127.0.0.1:1/v1/rewards")
    policy = load_policy(config.policy, config)
    value = ppo_parts.load_value(policy)
    assert not value.score.weight.any()


def test_rates_rise_then_fall(tmp_path, models):
    """Ten iterations, two of warm-up: thirds up, then a line down to an eighth of the peak."""
    config = settings(
        tmp_path, models, schedule="linear", warmup_share=0.2, rollout_size=16, micro_batch_size=8
    )
    schedule = ppo_schedule.Schedule.of(config, 40)  # 4 epochs of 40 prompts
    assert schedule.num_iterations == 10
    shares = [schedule.share_of_peak(n) for n in range(10)]
    assert shares[:4] == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8])
    assert shares[-1] == pytest.approx(1 / 8)
