"""`cai train sft|reward|dpo|ppo`: data and a policy in, a finished policy out; stops and goes on.

Each trainer is imported when it is called. Under `accelerate launch -m cai.cli.main train …` every
process runs this, and the main one speaks.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from cai.cli.output import Bar, print_json, print_text, progress, say
from cai.errors import ConfigError
from cai.policy.resolve import FOLDER
from cai.registry import Registry
from cai.settings import load_settings
from cai.train.config import CONFIGS, CommonConfig, load_config
from cai.train.rows import counted

app = typer.Typer(no_args_is_help=True, add_completion=False)

TRAINERS = Registry("trainer", {name: f"cai.train.{name}:run" for name in CONFIGS})

_NEXT = {
    "sft": "cai train dpo --data RUN --policy {ref} --out NAME",
    "reward": "cai train ppo --data RUN --policy REF --set reward={ref} --out NAME",
    "dpo": "cai serve --engine vllm:{folder}",
    "ppo": "cai serve --engine vllm:{folder}",
}

Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="Run directory or .jsonl file; repeat it for several."),
]
Policy = Annotated[
    str | None, typer.Option("--policy", help="sandbox, a folder, a policy's name or a hub id.")
]
Out = Annotated[
    str | None, typer.Option("--out", help="Name of the new policy, or a path with a slash.")
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting, key=value; repeatable.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show samples, tokens and the plan; train nothing.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that must be there.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over, and replace the policy.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _add(kind: str, help: str) -> None:
    """A command of the trainer `kind`; all have the same flags, and --set for what is their own."""

    @app.command(kind, help=help)
    def command(
        data: Data = None,
        policy: Policy = None,
        out: Out = None,
        config: Config = None,
        set_: Sets = None,
        dry_run: DryRun = False,
        resume: Resume = False,
        fresh: Fresh = False,
        as_json: AsJson = False,
    ) -> None:
        given = _given(data, policy, out)
        _train(kind, given, config, set_, dry_run, _mode(resume, fresh), as_json)


for _kind, _help in {
    "sft": "Imitate demonstrations: a run's revisions (SL-CAI), its answers, or conversations.",
    "reward": "Learn a reward for answers from preference pairs and their soft labels.",
    "dpo": "Learn from preference pairs directly (DPO), with soft labels and an SFT term.",
    "ppo": "Learn from a reward by sampling (PPO); a KL penalty holds to the reference.",
}.items():
    _add(_kind, _help)


def _given(data: list[Path] | None, policy: str | None, out: str | None) -> dict[str, Any]:
    """Flags as settings: NAME is a policy under home, a path with a slash stands where it says."""
    given: dict[str, Any] = {"data": tuple(data) if data else None, "policy": policy}
    if out is None:
        return given
    home = load_settings().home
    if "/" in out:
        folder = Path(os.path.expanduser(out))
        where = {"out": folder, "run_dir": folder.with_name(f"{folder.name}.run")}
        return {**given, "name": folder.name, **where}
    return {**given, "name": out, "out": home / FOLDER / out, "run_dir": home / "runs" / out}


def _mode(resume: bool, fresh: bool) -> str:
    if resume and fresh:
        raise ConfigError("--resume goes on and --fresh starts over; give one of them")
    return "resume" if resume else "fresh" if fresh else "auto"


def _train(
    kind: str,
    given: dict[str, Any],
    file: Path | None,
    sets: list[str] | None,
    dry_run: bool,
    mode: str,
    as_json: bool,
) -> None:
    config = load_config(CONFIGS[kind], file=file, sets=sets or (), **given)
    run = TRAINERS.get(kind)
    if dry_run:
        _show_preview(run(config, dry_run=True), as_json=as_json)
        return
    with _stoppable(), ExitStack() as stack:
        checkpoint = run(config, progress=TrainingBar(config, stack), mode=mode)
        stack.close()
    if _is_main():
        _show_result(kind, checkpoint, as_json=as_json)


class TrainingBar:
    """Progress from the first report on, when the number of steps is known."""

    def __init__(self, config: CommonConfig, stack: ExitStack) -> None:
        self._what = config.name
        self._stack = stack
        self._bar: Bar | None = None
        self._done = 0

    def __call__(self, now: Any) -> None:
        """Move on to where training is now."""
        if self._bar is None:
            self._bar = self._stack.enter_context(progress(self._what, now.num_steps))
        note = "  ".join(f"{name} {value:.4g}" for name, value in now.figures.items())
        self._bar.advance(now.step - self._done, note=note)
        self._done = now.step


def _show_preview(preview: Any, *, as_json: bool) -> None:
    if not _is_main():
        return
    if as_json:
        print_json(preview.as_dict())
        return
    for number, sample in enumerate(preview.samples, start=1):
        print_text(f"--- sample {number}; loss on what stands in ⟦ ⟧")
        print_text("".join(f"⟦{p.text}⟧" if p.is_learnt else p.text for p in sample))
    tokens, fit, plan = preview.tokens, preview.fit, preview.plan
    print_text(
        f"--- tokens: {tokens.shortest:,} to {tokens.longest:,} a row, median {tokens.median:,}; "
        f"{tokens.total:,} in all, {tokens.num_learnt:,} with loss"
    )
    print_text(
        f"rows: {plan.num_train:,} to train, {plan.num_validation:,} to validate; "
        f"{fit['shortened']:,} without their oldest turns, {fit['left_out']:,} too long"
    )
    if preview.left_out:
        print_text(f"left out of the data: {counted(preview.left_out)}")
    print_text(
        f"plan: {plan.num_steps:,} steps of {plan.batch_size} rows ({plan.micro_batch_size} at "
        f"once), learning rate {plan.learning_rate:g}, {plan.precision}; validation every "
        f"{plan.eval_every:,} steps"
    )
    free = plan.memory.available
    print_text(
        f"model: {plan.num_trained:,} of {plan.num_parameters:,} parameters learn; about "
        f"{_gib(plan.memory.total)} of {'unknown' if free is None else _gib(free)} memory"
    )


def _show_result(kind: str, checkpoint: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "policy": str(checkpoint.folder),
                "digest": checkpoint.manifest.digest,
                "metrics": checkpoint.metrics,
            }
        )
        return
    print_text(f"{checkpoint.folder}: {checkpoint.manifest.digest}")
    for name, value in sorted(checkpoint.metrics.items()):
        print_text(f"  {name:<32} {value:.6g}")
    folder = checkpoint.folder
    print_text(f"next: {_NEXT[kind].format(ref=_ref(folder), folder=folder)}")


def _ref(folder: Path) -> str:
    """What names a policy for other commands: its name under home, else a path with a slash."""
    if folder.parent.resolve() == (load_settings().home / FOLDER).resolve():
        return folder.name
    return str(folder) if "/" in str(folder) else f"./{folder}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does; the last checkpoint stays."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        say("the last checkpoint stays")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.stdout.flush()
