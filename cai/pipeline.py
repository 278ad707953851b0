"""The story in one file: prompts -> drafts -> critiques and revisions -> rows of a run directory.

A fixed number of workers pull inputs from the file as they become free, so the engine stays full
to the end and memory stays flat. Knows files only through `cai.dataset`. Start from `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.constitution.schema import Constitution
from cai.dataset.lock import RunLock
from cai.dataset.manifest import begin_session, end_session
from cai.dataset.prompts import PromptFile, PromptRow, Skipped, survey_prompts
from cai.dataset.records import CONFIG, DONE
from cai.dataset.resume import Mode, Stock, prepare_folder, take_stock
from cai.dataset.writer import write_text
from cai.engine.base import Engine
from cai.errors import ConfigError, JudgeError
from cai.pipeline_config import GenerateConfig, settle
from cai.pipeline_job import Engines, Job, Progress, account_for

FLUSH_S = 0.25


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to. `worked` is False when there was nothing left to do."""

    folder: Path
    progress: Progress
    manifest: dict[str, Any]
    worked: bool


OnProgress = Callable[[Progress], None]


async def run(
    config: GenerateConfig,
    constitution: Constitution,
    *,
    mode: Mode = "auto",
    engine: Engine | None = None,
    judge: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Account for every input of the prompt file in the run directory; go on where it stopped.

    Opens (and closes) the engines named in `config` but for those given. Raises before an engine
    starts where settings, files or the directory will not do; DataError when the disk is full,
    EngineDeadError when an engine dies, JudgeError when the judge is beyond limits that refuse.
    Then, as after a cancel or a kill, the directory holds what was done, and the same call goes on
    from there.
    """
    prompts = survey_prompts(config.prompts, limit=config.limit)
    for name in config.principles or ():
        constitution.principle(name)
    if config.is_judged and not constitution.candidates("compare"):
        raise ConfigError(
            f"no principle of {constitution.ref} has a 'compare' text, so nothing can be judged; "
            "add one, or make transcripts alone with --judge none",
            param="constitution",
        )
    settled = settle(config, constitution, prompts)
    prepare_folder(config.out, mode=mode)
    lock = RunLock.take(config.out)
    try:
        stock = take_stock(config.out, settled, mode=mode, judged=config.is_judged)
        _check_limit(config, stock, prompts)
        if stock.is_done and stock.counts.accounted == prompts.num_inputs:
            return _nothing_to_do(config.out, stock, prompts)
        async with _engines(config, engine, judge) as engines:
            manifest = begin_session(
                config.out,
                settled,
                constitution=constitution,
                engine=engines.policy.identity(),
                judge=None if engines.judge is None else engines.judge.identity(),
                prompts=prompts,
                stock=stock,
            )
            job = Job(config, constitution, engines, stock, prompts, manifest)
            return await _session(job, on_progress)
    finally:
        lock.release()


async def _session(job: Job, on_progress: OnProgress | None) -> Summary:
    folder = job.config.out
    if job.verdicts is not None:
        await job.verdicts.check()
    (folder / DONE).unlink(missing_ok=True)
    try:
        job.writer.write_manifest(job.manifest)
        write_text(folder / CONFIG, job.config.to_yaml())
        await _work(job, on_progress)
        job.finish_rejections()
        warnings = {"warnings": job.require_limits()} if job.config.is_judged else {}
        manifest = end_session(job.manifest, job.writer.counts, job.shown() | warnings)
        job.writer.finish(manifest)
    except JudgeError:
        job.writer.write_manifest(job.manifest | job.shown())
        raise
    finally:
        job.writer.close()
    progress = job.progress()
    if on_progress is not None:
        on_progress(progress)
    return Summary(folder, progress, manifest, worked=True)


async def _work(job: Job, on_progress: OnProgress | None) -> None:
    source = job.owed()
    try:
        async with asyncio.TaskGroup() as group:
            ticker = group.create_task(_tick(job, on_progress))
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(job.config.concurrency, job.prompts.num_inputs)):
                    workers.create_task(_worker(job, source))
            ticker.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors


async def _tick(job: Job, on_progress: OnProgress | None) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        job.writer.flush()
        job.require_limits()
        if on_progress is not None:
            on_progress(job.progress())


async def _worker(job: Job, source: Iterator[PromptRow | Skipped]) -> None:
    for row in source:
        if isinstance(row, Skipped):
            job.rejections.reject(row, stage="read", reason=row.reason, detail=row.detail)
        else:
            await account_for(job, row)


@asynccontextmanager
async def _engines(
    config: GenerateConfig, given: Engine | None, given_judge: Engine | None
) -> AsyncIterator[Engines]:
    """The policy and its judge, opened as the settings say; what was given is not closed."""
    from cai.engine.open import open_engine

    async with AsyncExitStack() as stack:
        policy = given
        if policy is None:
            policy = await open_engine(config.engine, options=config.engine_args)
            stack.push_async_callback(policy.aclose)
        if not config.is_judged:
            yield Engines(policy, None)
        elif given_judge is not None:
            yield Engines(policy, given_judge)
        elif config.judge in (None, config.engine):
            yield Engines(policy, policy)
        else:
            judge = await open_engine(config.judge, options=config.judge_args)
            stack.push_async_callback(judge.aclose)
            yield Engines(policy, judge)


def _check_limit(config: GenerateConfig, stock: Stock, prompts: PromptFile) -> None:
    if stock.counts.accounted > prompts.num_inputs:
        raise ConfigError(
            f"{config.out}: the run already has {stock.counts.accounted} inputs and the limit is "
            f"{prompts.num_inputs}; raise it, or start over with --fresh",
            param="limit",
        )


def _nothing_to_do(folder: Path, stock: Stock, prompts: PromptFile) -> Summary:
    assert stock.manifest is not None, "a run that is done has a manifest"
    progress = Progress(prompts.num_inputs, stock.counts, 0, 0, 0.0)
    return Summary(folder, progress, stock.manifest, worked=False)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
