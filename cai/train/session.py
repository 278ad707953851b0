"""One run of a trainer from its folder to the finished policy: go on, train, keep the best, export.

Every trainer of TRL goes through here; what differs (rows, loss, figures) is theirs.

    with open_session(prepared, data, mode=mode) as session:
        if session.finished: return session.finished
        ...
        trained = session.train(trainer, lengths=lengths)
        return session.finish(trained, prompts=..., answers=...)
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from cai.constitution.store import ConstitutionStore
from cai.errors import CaiError, DataError, PolicyError
from cai.files import read_json
from cai.policy.manifest import read_manifest
from cai.registry import load_object
from cai.settings import load_settings
from cai.train.base import (
    LoadedPolicy,
    Prepared,
    is_main_process,
    load_saved,
    load_tokenizer,
    wait_for_all,
    world_size,
)
from cai.train.curves import Curves
from cai.train.export import Checkpoint, check_out, export_policy, probe_set, rounded
from cai.train.facts import is_url, locate, public_address, public_name, without_login
from cai.train.memory import check_disk, check_memory, estimate
from cai.train.plan import OnProgress, Plan, make_plan
from cai.train.rows import Answer, Loaded, counted
from cai.train.state import Mode, RunFolder, SavedState, read_done, verify_state
from cai.train.trainer_common import History, Pacer, attach
from cai.types import Conversation
from cai.yamlguard import dump_yaml

if TYPE_CHECKING:
    from cai.constitution.schema import Constitution

logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES}
_NOT_METRICS = ("runtime", "per_second", "num_tokens")  # of this machine, or of this call alone


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a trainer ended: the checkpoint that is kept, what was logged, why it stopped early."""

    best: SavedState
    history: History
    stopped_because: str | None = None

    def metrics(self) -> dict[str, float]:
        """Figures of the best validation, and the step it was at."""
        found: dict[str, float] = {"best_step": self.best.step}
        for row in self.history:
            if row.get("step") == self.best.step:
                found |= {
                    name: float(value)
                    for name, value in row.items()
                    if name.startswith("eval_") and not name.endswith(_NOT_METRICS)
                }
        return found


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a run's answers are scored by, where they are: reward model, judge's constitution."""

    reward_digest: str | None = None
    constitution: Constitution | None = None

    def settled(self) -> dict[str, str]:
        """Digests of what decides the result as much as any setting."""
        found = {} if self.reward_digest is None else {"reward.digest": self.reward_digest}
        if self.constitution is not None:
            found["constitution.digest"] = self.constitution.digest
        return found

    def constitutions(self, known: dict[str, str]) -> dict[str, str]:
        """Digests by reference: `known` ones, and the judge's beside them."""
        if self.constitution is None:
            return known
        ref, digest = self.constitution.ref, self.constitution.digest
        if known.get(ref, digest) != digest:  # a draft that changed since the data was made
            ref = f"{ref}#{digest.removeprefix('sha256:')[:8]}"
        return {**known, ref: digest}


@dataclass(slots=True)
class Session:
    """An open run. `finished` is there when the run was finished before."""

    prepared: Prepared[Any]
    data: Loaded[Any]
    scoring: Scoring
    folder: RunFolder
    replaces: bool
    finished: Checkpoint | None = None
    on_progress: OnProgress | None = None
    _curves: Curves | None = field(default=None, init=False)

    @property
    def config(self) -> Any:
        """The resolved config."""
        return self.prepared.config

    def train(
        self,
        trainer: Any,
        plan: Plan,
        *,
        lengths: Sequence[int] | None = None,
        metric: str = "eval_loss",
        is_better_when_greater: bool = False,
        may_stop: Callable[[History], str | None] | None = None,
        best: Callable[[History], int | None] | None = None,
    ) -> Trained:
        """Train from the newest checkpoint on, or from the start, to the end or an early stop.

        Rows of like length share a batch where `lengths` (tokens of each row) are given. `may_stop`
        is asked after each validation with everything logged so far, and answers with a reason;
        `best` likewise with the step whose weights are kept, in place of the best `metric`'s.
        """
        start = self.folder.newest()
        if is_main_process():
            self._curves = Curves(self.folder.folder, after=start.step if start else 0)
        pacer = Pacer(
            plan,
            self.config,
            self._curves,
            metric=metric,
            is_better_when_greater=is_better_when_greater,
            on_progress=self.on_progress if is_main_process() else None,
            may_stop=may_stop,
            best=best,
        )
        attach(trainer, pacer, lengths=lengths, seed=self.config.seed)
        history = _history_of(start)
        is_over = start is not None and start.step >= plan.num_steps
        if not is_over and pacer.reason_to_stop(history) is None:
            self._run(trainer, start)
            history = trainer.state.log_history
        step = pacer.best_step(history)
        assert step is not None, "there is a validation at the last step"
        kept = SavedState(step, self.folder.checkpoints / f"checkpoint-{step}")
        verify_state(kept.folder)
        return Trained(kept, history, pacer.reason_to_stop(history))

    def best_model(self, trained: Trained, policy: LoadedPolicy[Any]) -> Any:
        """The best checkpoint's model, rounded as it is stored, on the GPU if there is one.

        Adapters are merged unless `lora.merge` says otherwise.
        """
        model = load_saved(policy, trained.best.folder)
        if torch.cuda.is_available():
            if world_size() == 1:
                policy.model.to("cpu")  # it has done its work, and its place is needed
            model = model.to("cuda")
        return rounded(model, policy.dtype)

    def finish(
        self,
        trained: Trained,
        policy: LoadedPolicy[Any],
        *,
        method: str,
        prompts: Sequence[Conversation],
        answers: Sequence[Answer] | None = None,
        metrics: dict[str, float] | None = None,
        model: Any = None,
        **fields: Any,
    ) -> Checkpoint:
        """Export the best weights with probes on `prompts`, draw the curves, write `DONE`.

        `fields` are further ones of the manifest; `kind` and `probes` among them are taken as they
        are. Only the main process exports.
        """
        if not is_main_process():
            wait_for_all()
            return _checkpoint_of(self.config.out)
        model = self.best_model(trained, policy) if model is None else model
        config = self.config
        kind = "full" if config.lora is None or config.lora.merge else "lora"
        if "probes" not in fields and fields.get("kind", kind) != "reward":
            fields["probes"] = probe_set(
                model,
                policy.tokenizer,
                policy.encoder,
                prompts,
                num=config.num_probes,
                seed=config.seed,
                answers=answers,
                max_length=config.max_length,
            )
        checkpoint = export_policy(
            model,
            load_tokenizer(policy.folder),
            config.out,
            dtype=policy.dtype,
            replace=self.replaces,
            metrics={**trained.metrics(), **self.data.figures(), **(metrics or {})},
            **{
                "name": config.name,
                "kind": kind,
                "method": method,
                **policy.facts.lineage(),
                "config": public_config(config),
                "seeds": {"seed": config.seed},
                "data": self.data.sources,
                "constitutions": self.scoring.constitutions(self.data.constitutions),
                "reward_digest": self.scoring.reward_digest,
                **fields,
            },
        )
        self._conclude(checkpoint, trained)
        return checkpoint

    def close(self) -> None:
        """Let the folder go."""
        if self._curves is not None:
            self._curves.close()
        self.folder.close()

    def _run(self, trainer: Any, start: SavedState | None) -> None:
        try:
            trainer.train(resume_from_checkpoint=None if start is None else str(start.folder))
        except (OSError, SafetensorError, RuntimeError) as exc:
            if not _is_of_the_disk(exc):
                raise
            reason = getattr(exc, "strerror", None) or " ".join(str(exc).split())[:200]
            raise DataError(
                f"{self.folder.folder}: cannot be written: {reason}; make room: the same command "
                "then goes on from the last checkpoint"
            ) from exc

    def _conclude(self, checkpoint: Checkpoint, trained: Trained) -> None:
        if self._curves is not None:
            self._curves.close()
        self.folder.finish(
            {
                "digest": checkpoint.manifest.digest,
                "metrics": checkpoint.metrics,
                "stopped_because": trained.stopped_because,
            }
        )
        try:
            load_object("cai.train.plots:plot")(self.folder.folder)
        except (CaiError, OSError, ValueError) as exc:  # a policy is finished without a picture
            logger.warning("the curves of %s were not drawn: %s", self.folder.folder, exc)
        wait_for_all()


@contextmanager
def open_session(
    prepared: Prepared[Any],
    data: Loaded[Any],
    *,
    mode: Mode = "auto",
    on_progress: OnProgress | None = None,
) -> Iterator[Session]:
    """The run of a prepared config, locked against other writers while the block lasts.

    Raises what `RunFolder.open` raises, and ConflictError when `out` holds something else.
    """
    config = prepared.config
    scoring = scoring_of(config)
    settled = {
        **{name: _no_login(value) for name, value in config.settled().items()},
        **scoring.settled(),
        "policy": prepared.facts.digest,
        **{f"data.{index}": one.digest for index, one in enumerate(data.sources)},
    }
    replaces = mode == "fresh" or _is_of_this_run(config.out, prepared, data, scoring)
    if mode == "fresh" or _finished(config.run_dir, config.out) is None:
        check_out(config.out, name=config.name, replace=replaces)
    folder = RunFolder.open(
        config.run_dir,
        settled,
        config=dump_yaml(config.model_dump(mode="json", exclude_none=True)),
        mode=mode,
        is_main=is_main_process(),
    )
    session = Session(prepared, data, scoring, folder, replaces, on_progress=on_progress)
    try:
        wait_for_all()
        session.finished = _finished(config.run_dir, config.out)
        if session.finished is None:
            check_disk(prepared.facts, config)
            if is_main_process() and (left_out := counted(data.left_out)):
                logger.warning("%s: left out of the data: %s", config.run_dir, left_out)
        yield session
    finally:
        session.close()


def scoring_of(config: Any) -> Scoring:
    """What scores the answers of a run: read from their folders, as they are now.

    Raises NotFoundError or PolicyError for a reward model, ConstitutionError for a constitution.
    """
    reward, judge = getattr(config, "reward", None), getattr(config, "judge", None)
    digest = constitution = None
    if reward is not None and not is_url(reward):
        digest = read_manifest(locate(reward, load_settings().home)).digest
    if judge is not None:
        store = ConstitutionStore(load_settings().constitutions)
        constitution = store.get(config.constitution)
    return Scoring(digest, constitution)


def plan_of(
    policy: LoadedPolicy[Any], num_train: int, num_validation: int, *, longest: int | None = None
) -> Plan:
    """Steps, sizes and memory of training `policy` on that many rows.

    `longest` is the longest row in tokens, where it is known. Raises ConfigError when memory cannot
    suffice for a batch of such rows.
    """
    loaded = sum(p.numel() * p.element_size() for p in policy.model.parameters())
    check_memory(policy.facts, policy.config, length=longest, loaded=loaded)
    return make_plan(
        policy.config,
        num_train=num_train,
        num_validation=num_validation,
        num_parameters=policy.facts.num_parameters,
        num_trained=policy.num_trained,
        memory=estimate(policy.facts, policy.config, length=longest),
        processes=world_size(),
    )


def public_config(config: Any) -> dict[str, Any]:
    """The resolved config for a manifest: no folders of this machine, no passwords."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude={"run_dir", "out"})
    values["data"] = [Path(path).name for path in values["data"]]
    values["policy"] = public_name(values["policy"])
    for name in ("reward", "judge"):
        if values.get(name) is not None:
            values[name] = public_address(values[name])
    return values


def _no_login(value: Any) -> Any:
    return without_login(value) if isinstance(value, str) else value


def _finished(run_dir: Path, out: Path) -> Checkpoint | None:
    """The policy of a finished run, if it is still what the run made."""
    done = read_done(run_dir)
    if done is None:
        return None
    try:
        manifest = read_manifest(out)
    except PolicyError:
        return None
    if manifest.digest != done["digest"]:
        return None
    return Checkpoint(out, manifest, dict(done["metrics"]))


def _is_of_this_run(
    out: Path, prepared: Prepared[Any], data: Loaded[Any], scoring: Scoring
) -> bool:
    """Whether a policy came of the same config and data: a kill came between it and `DONE`."""
    try:
        found = read_manifest(out)
    except PolicyError:
        return False
    same_config = found.config == public_config(prepared.config)
    same_scoring = (
        found.reward_digest == scoring.reward_digest
        and found.constitutions == scoring.constitutions(data.constitutions)
    )
    return same_config and same_scoring and found.data == data.sources


def _checkpoint_of(out: Path) -> Checkpoint:
    manifest = read_manifest(out)
    return Checkpoint(out, manifest, dict(manifest.metrics))


def _is_of_the_disk(exc: Exception) -> bool:
    """Whether a checkpoint could not be written: torch says so as a RuntimeError."""
    if isinstance(exc, OSError):
        return exc.errno in _DISK
    return isinstance(exc, SafetensorError) or "PytorchStreamWriter" in str(exc)


def _history_of(state: SavedState | None) -> History:
    if state is None:
        return []
    history: History = read_json(state.folder / _STATE)["log_history"]
    return history
