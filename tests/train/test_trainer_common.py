"""Order of rows, and when to validate, save and stop, as functions of seed and log."""

import sys
from types import SimpleNamespace

import accelerate.utils
import pytest
import torch
from transformers.integrations import TensorBoardCallback, integration_utils
from trl import RewardConfig as RewardArguments

from cai.errors import ConfigError
from cai.train.memory import MemoryEstimate
from cai.train.plan import make_plan
from cai.train.trainer_common import (
    Pacer,
    RowOrder,
    RunTrainer,
    arguments,
    attach,
    device_to_load_on,
    from_main,
)
from tests.train.runs import resolved, sft_config

LENGTHS = [(17 * n) % 23 + 1 for n in range(50)]


def order(epoch, *, seed=1, batch_size=4):
    return RowOrder(LENGTHS, batch_size, seed, epoch=lambda: epoch)


def test_an_epoch_has_every_row_once_and_its_own_order():
    first, second = list(order(0)), list(order(1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first == list(order(0))
    assert first != list(order(0, seed=2))


def test_rows_of_like_length_share_a_batch_and_the_short_batch_is_last():
    """In random order a batch of 4 of these spans 14 tokens on average; here a few."""
    rows = list(order(0))
    batches = [rows[at : at + 4] for at in range(0, 50, 4)]
    spans = [max(map(LENGTHS.__getitem__, b)) - min(map(LENGTHS.__getitem__, b)) for b in batches]
    assert len(batches[-1]) == 2
    assert sum(spans[:-1]) / 12 < 4


@pytest.fixture
def plan(tmp_path):
    config = resolved(sft_config(tmp_path, tmp_path, tmp_path, evals_per_epoch=2, epochs=2))
    return make_plan(
        config,
        num_train=39,
        num_validation=5,
        num_parameters=100,
        num_trained=100,
        memory=MemoryEstimate(1, 1, None),
    )


def pacer(plan, tmp_path, **more):
    config = sft_config(tmp_path, tmp_path, tmp_path, patience=2)
    return Pacer(plan, config, None, **more)


def history(*losses):
    return [{"step": 5 * (i + 1), "eval_loss": loss} for i, loss in enumerate(losses)]


def test_39_rows_in_fours_are_10_steps_an_epoch(plan):
    assert (plan.steps_per_epoch, plan.num_steps) == (10, 20)
    assert (plan.eval_every, plan.save_every, plan.accumulation) == (5, 5, 1)


def test_the_best_is_the_lowest_or_the_greatest_and_the_first_of_equals(plan, tmp_path):
    assert pacer(plan, tmp_path).best_step(history(3, 1, 1, 2)) == 10
    greatest = pacer(plan, tmp_path, is_better_when_greater=True)
    assert greatest.best_step(history(3, 1, 3, 2)) == 5
    assert pacer(plan, tmp_path).best_step([{"step": 1, "loss": 1.0}]) is None


def test_it_stops_after_two_validations_without_a_new_best(plan, tmp_path):
    one = pacer(plan, tmp_path)
    assert one.reason_to_stop(history(3, 2, 2.5)) is None
    assert "2 validations" in one.reason_to_stop(history(3, 2, 2.5, 2.1))
    assert one.reason_to_stop(history(3, 2, 2.5, 1.9)) is None


def test_a_reason_from_outside_stops_too(plan, tmp_path):
    one = pacer(plan, tmp_path, may_stop=lambda log: "budget" if len(log) > 1 else None)
    assert one.reason_to_stop(history(3)) is None
    assert one.reason_to_stop(history(3, 2)) == "budget"


def test_the_best_may_be_chosen_outside_and_patience_counts_from_it(plan, tmp_path):
    one = pacer(plan, tmp_path, best=lambda log: 5 if log else None)
    assert one.best_step(history(3, 2, 1)) == 5
    assert one.reason_to_stop(history(3, 2)) is None
    assert one.reason_to_stop(history(3, 2, 1)) == "no new best in 2 validations"


def test_validation_and_saving_come_by_plan_and_at_the_last_step(plan, tmp_path):
    one = pacer(plan, tmp_path)
    asked = {}
    for step in (4, 5, 20):
        control = SimpleNamespace(should_evaluate=False, should_save=False, should_log=False)
        one.on_step_end(None, SimpleNamespace(global_step=step, log_history=[]), control)
        asked[step] = control.should_evaluate and control.should_save and control.should_log
    assert asked == {4: False, 5: True, 20: True}


def test_a_loss_that_is_no_number_ends_the_run(plan, tmp_path):
    state = SimpleNamespace(global_step=3)
    with pytest.raises(ConfigError, match="loss is nan at step 3; lower learning_rate"):
        pacer(plan, tmp_path).on_log(None, state, None, logs={"loss": float("nan")})


def test_a_loss_that_is_no_number_is_logged_as_it_is(plan, tmp_path):
    """Else transformers logs a mean of sound losses in its place, and no one is told."""
    config = resolved(sft_config(tmp_path, tmp_path, tmp_path))
    made = arguments(RewardArguments, config, plan, tmp_path / "checkpoints")
    assert made.logging_nan_inf_filter is False


class FullTrainer:
    """Stands for a trainer of TRL, with what `attach` asks of one; training it needs too much."""

    def __init__(self, folder=None, *callbacks):
        self.args = SimpleNamespace(output_dir=str(folder))
        self.callback_handler = SimpleNamespace(callbacks=[*callbacks])
        self.add_callback = self.remove_callback = lambda _one: None

    def train(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")


class OurFullTrainer(RunTrainer, FullTrainer):
    """Mixed as the real ones are."""


def test_memory_that_runs_out_is_told_with_ways_out(plan, tmp_path):
    trainer = OurFullTrainer(tmp_path)
    attach(
        trainer,
        pacer(
            plan,
            tmp_path,
        ),
        lengths=None,
        seed=1,
    )
    words = r"memory ran out in training: CUDA.* 2\.00 GiB; train adapters .*, or lower max_length"
    with pytest.raises(ConfigError, match=words):
        trainer.train()


def test_tensorboard_writes_beside_the_checkpoints(plan, tmp_path, monkeypatch):
    """Not among them, where a resumed run tidies up; TENSORBOARD_LOGGING_DIR goes before."""
    made = []
    writer = SimpleNamespace(add_text=lambda *_: None)
    module = SimpleNamespace(SummaryWriter=lambda log_dir: made.append(log_dir) or writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    folder = tmp_path / "run" / "checkpoints"
    for asked in (None, str(tmp_path / "mine")):
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", asked) if asked else None
        callback = TensorBoardCallback()
        trainer = FullTrainer(folder, callback)
        attach(trainer, pacer(plan, tmp_path), lengths=None, seed=1)
        args = SimpleNamespace(output_dir=str(folder), to_json_string=lambda: "{}")
        state = SimpleNamespace(is_world_process_zero=True, is_hyper_param_search=False)
        callback.on_train_begin(args, state, None)
    assert made == [str(tmp_path / "run" / "tracked" / "tiny"), str(tmp_path / "mine")]


@pytest.mark.parametrize(
    ("name", "words"), [("wandb", "is not installed; install it"), ("paper", "is none of azure_ml")]
)
def test_a_tracker_that_there_is_not_is_refused(plan, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    config = resolved(sft_config(tmp_path, tmp_path, tmp_path, report_to=name))
    with pytest.raises(ConfigError, match=f"report_to: {name} {words}"):
        arguments(RewardArguments, config, plan, tmp_path)


def test_what_the_main_process_made_is_what_all_have(monkeypatch):
    assert from_main(lambda: "made") == "made"
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = []
    monkeypatch.setattr(
        accelerate.utils, "broadcast_object_list", lambda one: told.extend(one) or ["main's"]
    )
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert from_main(lambda: "made") == "main's"
    assert told == ["made", None]


def test_one_process_loads_to_its_gpu_and_several_leave_it_to_accelerate(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_to_load_on() == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert device_to_load_on() is None
