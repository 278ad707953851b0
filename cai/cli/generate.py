"""`cai data generate`: prompts in, a run directory out; stops and goes on at any moment."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cai.cli.generate_config import resolve_config
from cai.cli.output import Bar, print_json, print_text, progress, say
from cai.cli.stoppable import run_stoppable
from cai.constitution.store import ConstitutionStore
from cai.dataset.resume import Mode
from cai.dataset.status import read_status
from cai.errors import CaiError, ConfigError
from cai.pipeline import Summary, run
from cai.pipeline_config import GenerateConfig
from cai.pipeline_job import Progress
from cai.settings import load_settings


def command(
    prompts: Annotated[
        Path, typer.Argument(help="File of prompts: .jsonl, .jsonl.gz or .txt; HH-RLHF too.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Run directory.")] = None,
    constitution: Annotated[
        str | None, typer.Option("-c", "--constitution", help="name@2, name@draft or name.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Engine address of the policy.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Engine address of the judge; none makes transcripts alone."),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Drafts per input, 1 to 9.")] = None,
    revisions: Annotated[int | None, typer.Option(help="Critique-revision steps.")] = None,
    limit: Annotated[int | None, typer.Option(help="Stop after this many inputs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides the draws of principles.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Inputs in flight at once.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of one answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="An argument of the engine, name=value; repeatable.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of these settings.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, key=value; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that must be there.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start the run over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer, critique and revise every prompt of a file, and judge the answers in pairs.

    The run directory has whole transcripts, preference rows, and what was rejected and why. The
    same command goes on where it stopped, whatever stopped it.
    """
    flags = {
        "prompts": prompts,
        "out": out,
        "constitution": constitution,
        "engine": engine,
        "judge": judge,
        "samples": samples,
        "revisions": revisions,
        "limit": limit,
        "seed": seed,
        "concurrency": concurrency,
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    resolved = resolve_config(flags, file=config, sets=set_ or (), engine_args=engine_arg or ())
    summary = _generate(resolved, _mode(resume=resume, fresh=fresh))
    _print_summary(summary, as_json=as_json)
    if summary.progress.counts.kept == 0:
        raise _nothing_kept(summary)


def _mode(*, resume: bool, fresh: bool) -> Mode:
    if resume and fresh:
        raise ConfigError("--resume goes on and --fresh starts over; give one of them")
    return "resume" if resume else "fresh" if fresh else "auto"


def _generate(config: GenerateConfig, mode: Mode) -> Summary:
    found = ConstitutionStore(load_settings().constitutions).get(config.constitution)
    with ExitStack() as stack:
        show = _Shown(config.out, stack)
        try:
            return run_stoppable(run(config, found, mode=mode, on_progress=show))
        except KeyboardInterrupt:
            stack.close()
            _say_where_it_stopped(config.out)
            raise


class _Shown:
    """Shows progress from the first report on, when the number of inputs is known."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._bar: Bar | None = None
        self._done = 0

    def __call__(self, now: Progress) -> None:
        if self._bar is None:
            self._bar = self._stack.enter_context(progress(str(self._folder), now.inputs))
        rejected = now.counts.num_rejected
        self._bar.advance(
            now.counts.accounted - self._done,
            note=(f"{rejected:,} rejected  " if rejected else "")
            + f"{now.rows_per_s:,.1f} rows/s  {now.tokens_per_s:,.0f} tokens/s",
        )
        self._done = now.counts.accounted


def _say_where_it_stopped(folder: Path) -> None:
    try:
        found = read_status(folder)
    except CaiError:
        return
    say(
        f"{folder}: {found.counts.kept:,} kept, {found.counts.num_rejected:,} rejected, "
        f"{found.owed:,} owed"
    )


def _print_summary(summary: Summary, *, as_json: bool) -> None:
    now, counts = summary.progress, summary.progress.counts
    if as_json:
        shown = {"run": str(summary.folder), "inputs": now.inputs, **counts.as_dict()}
        shown["warnings"] = summary.manifest.get("warnings", [])
        if summary.worked:
            shown |= {
                "seconds": round(now.seconds, 3),
                "rows_per_s": round(now.rows_per_s, 2),
                "tokens_per_s": round(now.tokens_per_s, 1),
            }
        print_json(shown)
        return
    print_text(
        f"{summary.folder}: {now.inputs:,} inputs, {counts.kept:,} kept, "
        f"{counts.num_rejected:,} rejected" + _reasons(counts.rejected)
    )
    if counts.pairs:
        print_text(f"{counts.pairs:,} preference pairs")
    for warning in summary.manifest.get("warnings", ()):
        say(f"warning: {warning}")
    if counts.duplicates:
        print_text(f"{counts.duplicates:,} inputs repeat an earlier prompt")
    if summary.worked:
        print_text(
            f"{now.seconds:,.1f} s, {now.rows_per_s:,.1f} rows/s, {now.tokens_per_s:,.0f} tokens/s"
        )
    else:
        print_text("nothing was owed; start over with --fresh")
    folder = summary.folder
    if counts.pairs:
        print_text(
            f"next: cai data card {folder}; cai data export {folder} --format trl --out FILE"
        )
    else:
        print_text(f"next: cai data status {folder}")


def _reasons(rejected: dict[str, int]) -> str:
    told = ", ".join(f"{reason} {number:,}" for reason, number in sorted(rejected.items()))
    return f" ({told})" if told else ""


def _nothing_kept(summary: Summary) -> CaiError:
    counts = summary.progress.counts
    message = (
        f"{summary.folder}: no input was kept{_reasons(counts.rejected)}; "
        "rejected.jsonl there says why, line by line"
    )
    return ConfigError(message, param="prompts")
