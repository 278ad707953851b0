"""The story in one file: prompts -> drafts -> critiques and revisions -> rows of a run directory.

A fixed number of workers pull inputs from the file as they become free, so the engine stays full
to the end and memory stays flat. Knows files only through `cai.dataset`. Start from `run`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.constitution.schema import Constitution
from cai.critique.loop import revise
from cai.critique.records import Transcript
from cai.dataset.lock import RunLock
from cai.dataset.manifest import begin_session, end_session
from cai.dataset.prompts import PromptFile, PromptRow, Skipped, iter_prompts, survey_prompts
from cai.dataset.records import CONFIG, DONE, Counts, transcript_row
from cai.dataset.rejections import Rejections
from cai.dataset.resume import Mode, Stock, prepare_folder, take_stock
from cai.dataset.writer import RunWriter, write_text
from cai.engine.base import Engine
from cai.errors import CaiError, ConfigError, OverloadedError
from cai.pipeline_config import GenerateConfig, settle

FLUSH_S = 0.25
MAX_TRIES = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `session_` figures are those since this process began its work."""

    inputs: int
    counts: Counts
    session_inputs: int
    session_tokens: int
    seconds: float

    @property
    def rows_per_s(self) -> float:
        """Inputs accounted for per second."""
        return self.session_inputs / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens of whole transcripts per second."""
        return self.session_tokens / self.seconds if self.seconds else 0.0


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
    on_progress: OnProgress | None = None,
) -> Summary:
    """Account for every input of the prompt file in the run directory; go on where it stopped.

    Opens (and closes) the engine named in `config` unless one is given. Raises before the engine
    starts where settings, files or the directory will not do; DataError when the disk is full,
    EngineDeadError when the engine dies. Then, as after a cancel or a kill, the directory holds
    what was done, and the same call goes on from there.
    """
    prompts = survey_prompts(config.prompts, limit=config.limit)
    for name in config.principles or ():
        constitution.principle(name)
    settled = settle(config, constitution, prompts)
    prepare_folder(config.out, mode=mode)
    lock = RunLock.take(config.out)
    try:
        stock = take_stock(config.out, settled, mode=mode, judged=False)
        _check_limit(config, stock, prompts)
        if stock.is_done and stock.counts.accounted == prompts.num_inputs:
            return _nothing_to_do(config.out, stock, prompts)
        opened = engine or await _open(config)
        try:
            manifest = begin_session(
                config.out,
                settled,
                constitution=constitution,
                engine=opened.identity(),
                prompts=prompts,
                stock=stock,
            )
            job = _Job(config, constitution, opened, stock, prompts, manifest)
            return await _session(job, on_progress)
        finally:
            if engine is None:
                await opened.aclose()
    finally:
        lock.release()


async def _session(job: _Job, on_progress: OnProgress | None) -> Summary:
    folder = job.config.out
    (folder / DONE).unlink(missing_ok=True)
    try:
        job.writer.write_manifest(job.manifest)
        write_text(folder / CONFIG, job.config.to_yaml())
        await _work(job, on_progress)
        job.rejections.finish()
        manifest = end_session(job.manifest, job.writer.counts)
        job.writer.finish(manifest)
    finally:
        job.writer.close()
    progress = job.progress()
    if on_progress is not None:
        on_progress(progress)
    return Summary(folder, progress, manifest, worked=True)


async def _work(job: _Job, on_progress: OnProgress | None) -> None:
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


async def _tick(job: _Job, on_progress: OnProgress | None) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        job.writer.flush()
        if on_progress is not None:
            on_progress(job.progress())


async def _worker(job: _Job, source: Iterator[PromptRow | Skipped]) -> None:
    for row in source:
        if isinstance(row, Skipped):
            job.rejections.reject(row, stage="read", reason=row.reason, detail=row.detail)
        else:
            await _account_for(job, row)


async def _account_for(job: _Job, row: PromptRow) -> None:
    """One input's whole way, from draft to line: kept, or rejected with its reason.

    A judged run asks its judge between the transcript and `keep`, and hands `keep` the pairs.
    """
    try:
        transcript = await _revise(job, row)
    except CaiError as exc:
        job.rejections.failed(row, exc, stage="draft")
        return
    job.rejections.clear()
    if not transcript.draft:
        detail = "the policy answered with nothing"
        job.rejections.reject(row, stage="draft", reason="empty-draft", detail=detail)
        return
    job.writer.keep(
        transcript_row(
            row, transcript, config_digest=job.config_digest, policy_digest=job.policy_digest
        )
    )


async def _revise(job: _Job, row: PromptRow) -> Transcript:
    """The loop on one input. A full queue is waited for, longer each time, then raised."""
    for attempt in range(MAX_TRIES):
        try:
            return await revise(
                job.engine,
                row.messages,
                job.constitution,
                revisions=job.config.revisions,
                row=row.input_id,
                seed=job.config.seed,
                principles=job.config.principles,
                sampling=job.sampling,
            )
        except OverloadedError as exc:
            if attempt == MAX_TRIES - 1:
                raise
            await asyncio.sleep(min(60.0, exc.retry_after_s * 2**attempt))
    raise AssertionError("the last try returns or raises")


class _Job:
    """What the workers of one session share."""

    def __init__(
        self,
        config: GenerateConfig,
        constitution: Constitution,
        engine: Engine,
        stock: Stock,
        prompts: PromptFile,
        manifest: dict[str, Any],
    ) -> None:
        self.config = config
        self.constitution = constitution
        self.engine = engine
        self.prompts = prompts
        self.manifest = manifest
        self.config_digest: str = manifest["config_digest"]
        self.policy_digest = engine.identity().digest
        self.sampling = config.sampling()
        self.writer = RunWriter(config.out, stock.counts)
        self.rejections = Rejections(self.writer, self.config_digest)
        self._stock = stock
        self._started = time.monotonic()
        self._inputs_before = stock.counts.accounted
        self._tokens_before = stock.counts.completion_tokens

    def owed(self) -> Iterator[PromptRow | Skipped]:
        """Inputs that no earlier session accounted for, in the file's order."""
        rows = iter_prompts(self.prompts.path, limit=self.config.limit)
        return (row for row in rows if not self._stock.has(row.input_id))

    def progress(self) -> Progress:
        counts = self.writer.counts
        return Progress(
            self.prompts.num_inputs,
            counts,
            counts.accounted - self._inputs_before,
            counts.completion_tokens - self._tokens_before,
            time.monotonic() - self._started,
        )


async def _open(config: GenerateConfig) -> Engine:
    from cai.engine.open import open_engine

    return await open_engine(config.engine, options=config.engine_args)


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
