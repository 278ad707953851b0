"""What our subclasses of TRL's trainers share: arguments, order of rows, checkpoints, the pacer.

`RunTrainer` is mixed in before a trainer of TRL; `arguments` makes its settings; `Pacer` decides
when to validate, save and stop, all of it a function of the log, so that a resumed run decides as
an unbroken one. Nothing here knows a loss.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback
from transformers.integrations import (
    INTEGRATION_TO_CALLBACK,
    TensorBoardCallback,
    get_available_reporting_integrations,
    is_azureml_available,
    is_flytekit_available,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from cai.errors import ConfigError
from cai.train.base import is_main_process, world_size
from cai.train.config import CommonConfig
from cai.train.curves import Curves
from cai.train.memory import told_when_full
from cai.train.plan import OnProgress, Plan, Progress
from cai.train.state import TRACKED, keep_only, seal_state

ArgsT = TypeVar("ArgsT")
T = TypeVar("T")
History = Sequence[dict[str, Any]]

_POOL = 16  # batches among which rows of like length are put together
_NUM_LOGS = 200
_NOT_CURVES = ("runtime", "per_second", "total_flos", "train_loss", "num_tokens")


class RunTrainer:
    """Mixed in before a trainer: our order of rows, and sealed checkpoints."""

    lengths: Sequence[int] | None = None
    """Tokens of each training row; given, rows of like length share a batch."""
    order_seed: int = 0
    settings: CommonConfig | None = None
    """The run's config; given, an error of full memory names the ways out."""
    best_step: Callable[[], int | None] = staticmethod(lambda: None)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train. Raises ConfigError where memory runs out."""
        with told_when_full(self.settings):
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        this: Any = self
        dataset = this.train_dataset if train_dataset is None else train_dataset
        lengths = self.lengths if self.lengths is not None else [1] * len(dataset)
        assert len(lengths) == len(dataset), (len(lengths), len(dataset))
        args = this.args
        per_step = args.per_device_train_batch_size * args.world_size
        steps = math.ceil(math.ceil(len(lengths) / per_step) / args.gradient_accumulation_steps)
        return RowOrder(
            lengths,
            args.per_device_train_batch_size,
            self.order_seed,
            epoch=lambda: this.state.global_step // steps,
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        this: Any = self
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        step = int(this.state.global_step)
        this.accelerator.wait_for_everyone()
        if is_main_process():
            folder = Path(this.args.output_dir)
            seal_state(folder / f"checkpoint-{step}", step)
            keep_only(folder, {step, self.best_step() or step})
        this.accelerator.wait_for_everyone()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the policy's manifest says what it is."""


class RowOrder(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """Each epoch's order of rows by (seed, epoch): shuffled, then rows of like length together.

    Batches of `batch_size` come out in random order, the short one last.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, *, epoch: Callable[[], int]
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(self.of_epoch(self._epoch()))

    def of_epoch(self, epoch: int) -> list[int]:
        """Indices of all rows, each once."""
        draw = random.Random(f"order|{self._seed}|{epoch}")
        rows = draw.sample(range(len(self)), len(self))
        size = self._batch_size
        num_left = len(rows) % size
        whole, left = rows[: len(rows) - num_left], rows[len(rows) - num_left :]
        batches: list[list[int]] = []
        for start in range(0, len(whole), size * _POOL):
            pool = sorted(whole[start : start + size * _POOL], key=self._lengths.__getitem__)
            batches += [pool[at : at + size] for at in range(0, len(pool), size)]
        draw.shuffle(batches)
        return [row for batch in (*batches, left) for row in batch]


class Pacer(TrainerCallback):  # type: ignore[misc]
    """Validates, saves and stops by plan; writes the curves; tells progress."""

    def __init__(
        self,
        plan: Plan,
        config: CommonConfig,
        curves: Curves | None,
        *,
        metric: str = "eval_loss",
        is_better_when_greater: bool = False,
        on_progress: OnProgress | None = None,
        may_stop: Callable[[History], str | None] | None = None,
        best: Callable[[History], int | None] | None = None,
    ) -> None:
        self.config = config
        self._plan = plan
        self._patience = config.patience
        self._curves = curves
        self.metric = metric
        self._sign = -1.0 if is_better_when_greater else 1.0
        self._on_progress = on_progress
        self._may_stop = may_stop
        self._best = best
        self.stopped_because: str | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """After an optimizer step: is it time to log, validate, save?"""
        step, is_last = state.global_step, state.global_step >= self._plan.num_steps
        if is_last or step % self._plan.eval_every == 0:
            control.should_evaluate = control.should_log = True
        if is_last or step % self._plan.save_every == 0:
            control.should_save = control.should_log = True
        if self._on_progress is not None:
            self._on_progress(Progress(step, self._plan.num_steps, _last_figures(state)))
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """After a validation: keep a new best one's weights, stop when there is none for long."""
        if self.best_step(state.log_history) == state.global_step:
            control.should_save = True
        self.stopped_because = self.reason_to_stop(state.log_history)
        if self.stopped_because is not None:
            control.should_training_stop = control.should_save = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """What is logged goes to the curves; a loss that is no number ends the run."""
        values = {
            name: value
            for name, value in (logs or {}).items()
            if not any(part in name for part in _NOT_CURVES)
        }
        for name in ("loss", self.metric):
            if name in values and not math.isfinite(values[name]):
                raise ConfigError(
                    f"{name} is {values[name]} at step {state.global_step}; lower learning_rate",
                    param="learning_rate",
                )
        if values.keys() - {"epoch"} and self._curves is not None:
            self._curves.add(state.global_step, values)

    def best_step(self, history: History) -> int | None:
        """The step of the best validation so far, the first of equal ones; `best`'s where given."""
        if self._best is not None:
            return self._best(history)
        scored = self._scores(history)
        return min(scored, key=lambda one: (self._sign * one[1], one[0]))[0] if scored else None

    def reason_to_stop(self, history: History) -> str | None:
        """Why to stop now, by what was logged so far; None to go on."""
        if self._may_stop is not None and (reason := self._may_stop(history)):
            return reason
        scored, best = self._scores(history), self.best_step(history)
        if self._patience is None or best is None:
            return None
        since = sum(step > best for step, _ in scored)
        if since >= self._patience:
            if self._best is not None:
                return f"no new best in {since} validations"
            return f"{self.metric} has not improved in {since} validations"
        return None

    def _scores(self, history: History) -> list[tuple[int, float]]:
        return [(int(row["step"]), row[self.metric]) for row in history if self.metric in row]


def arguments(
    kind: type[ArgsT], config: CommonConfig, plan: Plan, folder: Path, **more: Any
) -> ArgsT:
    """A trainer's settings from a resolved config; `kind` is one of TRL's, such as SFTConfig."""
    on_gpu = torch.cuda.is_available()
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": plan.num_steps,
        "per_device_train_batch_size": plan.micro_batch_size,
        "per_device_eval_batch_size": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.accumulation,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": _SCHEDULES[config.schedule],
        "warmup_steps": round(config.warmup_share * plan.num_steps),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": config.precision == "bf16",
        "gradient_checkpointing": bool(config.gradient_checkpointing),
        "seed": config.seed,
        "data_seed": config.seed,
        "logging_steps": max(1, plan.num_steps // _NUM_LOGS),
        "logging_nan_inf_filter": False,  # Pacer ends a run whose loss is no number
        "eval_strategy": "no",  # Pacer decides
        "save_strategy": "no",
        "report_to": _report_to(config.report_to),
        "run_name": config.name,
        "disable_tqdm": True,
        "log_level": "error",
        "dataloader_pin_memory": on_gpu,
        "use_cpu": not on_gpu,
    }
    return kind(**{**values, **more})


def attach(trainer: Any, pacer: Pacer, *, lengths: Sequence[int] | None, seed: int) -> None:
    """Put a trainer under our pacer, and take off the callbacks that print.

    TensorBoard writes beside the checkpoints' folder, unless TENSORBOARD_LOGGING_DIR says where.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(pacer)
    trainer.lengths = lengths
    trainer.order_seed = seed
    trainer.settings = pacer.config
    trainer.best_step = lambda: pacer.best_step(trainer.state.log_history)
    tracked = Path(trainer.args.output_dir).parent / TRACKED / pacer.config.name
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(tracked)


def check_trackers(
    names: Sequence[str], *, known: Collection[str], installed: Collection[str]
) -> list[str]:
    """The trackers that `report_to` names. Raises ConfigError for one that cannot be used."""
    for name in names:
        if name in ("all", "none") or name in installed:
            continue
        if name in known:
            raise ConfigError(
                f"report_to: {name} is not installed; install it, or leave it out",
                param="report_to",
            )
        raise ConfigError(
            f"report_to: {name} is none of {', '.join(sorted(known))}; leave it out",
            param="report_to",
        )
    return [name for name in names if name != "none"]


def device_of_training() -> str:
    """Where the models of a run of one process live."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_to_load_on() -> str | None:
    """Where a policy goes at once; None where several processes have it placed by accelerate."""
    return device_of_training() if world_size() == 1 else None


def from_main(make: Callable[[], T]) -> T:
    """What `make` gives in the main process, in every process; it is called in no other.

    Every process has to come here. With one process it is a plain call.
    """
    if world_size() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    shared: list[Any] = [make() if is_main_process() else None]
    found: T = broadcast_object_list(shared)[0]
    return found


def _report_to(names: Sequence[str]) -> list[str] | str:
    """`report_to` as transformers takes it."""
    installed = set(get_available_reporting_integrations())
    others = {"azure_ml": is_azureml_available, "flyte": is_flytekit_available}
    installed |= {name for name, is_available in others.items() if is_available()}
    used = check_trackers(names, known=INTEGRATION_TO_CALLBACK, installed=installed)
    return "all" if "all" in used else used or "none"


def _last_figures(state: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in state.log_history[-2:]:
        found |= {name: row[name] for name in ("loss", "eval_loss") if name in row}
    return found


_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
