"""One input's whole way through a run, and what the workers of a session share.

`account_for` turns a prompt into a kept or a rejected input; nothing here opens engines or folders.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from cai.constitution.schema import Constitution
from cai.critique.loop import revise
from cai.critique.records import Transcript
from cai.critique.text import split_reasoning
from cai.dataset.judging import PairMaker
from cai.dataset.measured import Measured
from cai.dataset.prompts import PromptFile, PromptRow, Skipped, iter_prompts
from cai.dataset.records import Counts, transcript_row
from cai.dataset.rejections import Rejections
from cai.dataset.resume import Stock
from cai.dataset.writer import RunWriter
from cai.engine.base import Engine
from cai.errors import CaiError, ConfigError, JudgeError, OverloadedError, UnsupportedError
from cai.feedback.judge import Judge
from cai.pipeline_config import GenerateConfig
from cai.types import ChatPrompt, Usage

T = TypeVar("T")

MAX_TRIES = 8


class Engines(NamedTuple):
    """Who answers, and who judges; no judge makes no pairs."""

    policy: Engine
    judge: Engine | None


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


async def account_for(job: Job, row: PromptRow) -> None:
    """Keep an input, or reject it with its reason; raise what every input would meet."""
    try:
        transcript, samples = await _answer(job, row)
    except CaiError as exc:
        job.rejections.failed(row, exc, stage="draft")
        return
    job.rejections.clear()
    if not transcript.draft:
        detail = "the policy answered with nothing"
        job.rejections.reject(row, stage="draft", reason="empty-draft", detail=detail)
        return
    line = transcript_row(
        row, transcript, config_digest=job.config_digest, policy_digest=job.policy_digest
    )
    if job.verdicts is None:
        job.writer.keep(line)
        return
    if samples:
        line["samples"] = list(samples)
    await job.verdicts.account_for(row, transcript, samples, line)


async def _answer(job: Job, row: PromptRow) -> tuple[Transcript, tuple[str, ...]]:
    """The transcript on the first draft, and the further drafts beside it."""
    if job.config.samples == 1:
        return await _patiently(lambda: _revise(job, row)), ()
    try:
        async with asyncio.TaskGroup() as group:
            revising = group.create_task(_patiently(lambda: _revise(job, row)))
            sampling = group.create_task(_patiently(lambda: _sample(job, row)))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    transcript, samples = revising.result(), sampling.result()
    return replace(transcript, usage=transcript.usage + samples.usage), samples.texts


async def _revise(job: Job, row: PromptRow) -> Transcript:
    return await revise(
        job.policy,
        row.messages,
        job.constitution,
        revisions=job.config.revisions,
        row=row.input_id,
        seed=job.config.seed,
        principles=job.config.principles,
        sampling=job.sampling,
    )


class _Samples(NamedTuple):
    texts: tuple[str, ...]
    usage: Usage


async def _sample(job: Job, row: PromptRow) -> _Samples:
    sampling = replace(job.sampling, n=job.config.samples - 1)
    made = await job.policy.generate(ChatPrompt(row.messages), sampling)
    texts = tuple(split_reasoning(one.text).text.strip() for one in made.completions)
    return _Samples(texts, made.usage)


async def _patiently(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """A full queue is waited for, longer each time, then raised."""
    for attempt in range(MAX_TRIES):
        try:
            return await work()
        except OverloadedError as exc:
            if attempt == MAX_TRIES - 1:
                raise
            await asyncio.sleep(min(60.0, exc.retry_after_s * 2**attempt))
    raise AssertionError("the last try returns or raises")


class Job:
    """What the workers of one session share. `verdicts` is None in a run without a judge."""

    def __init__(
        self,
        config: GenerateConfig,
        constitution: Constitution,
        engines: Engines,
        stock: Stock,
        prompts: PromptFile,
        manifest: dict[str, Any],
    ) -> None:
        self.config = config
        self.constitution = constitution
        self.policy = engines.policy
        self.prompts = prompts
        self.manifest = manifest
        self.config_digest: str = manifest["config_digest"]
        self.policy_digest = engines.policy.identity().digest
        self.sampling = config.sampling()
        self.writer = RunWriter(config.out, stock.counts)
        self.rejections = Rejections(self.writer, self.config_digest)
        self.verdicts = None if engines.judge is None else Verdicts(self, engines.judge)
        self._stock = stock
        self._started = time.monotonic()
        self._inputs_before = stock.counts.accounted
        self._tokens_before = stock.counts.completion_tokens

    def owed(self) -> Iterator[PromptRow | Skipped]:
        """Inputs that no earlier session accounted for, in the file's order."""
        rows = iter_prompts(self.prompts.path, limit=self.config.limit)
        return (row for row in rows if not self._stock.has(row.input_id))

    def finish_rejections(self) -> None:
        """No input is left: reject what is still under suspicion, or raise that an engine is."""
        self.rejections.finish()
        if self.verdicts is not None:
            self.verdicts.rejections.finish()

    def require_limits(self) -> list[str]:
        """What to warn of in what the judge showed so far; raises where the config says refuse."""
        if self.verdicts is None:
            return []
        return self.verdicts.measured.require(self.config.judging)

    def shown(self) -> dict[str, Any]:
        """For the manifest: what the judge showed over the whole run, in every session."""
        return {} if self.verdicts is None else self.verdicts.measured.as_dict()

    def progress(self) -> Progress:
        """How far the run is now."""
        counts = self.writer.counts
        return Progress(
            self.prompts.num_inputs,
            counts,
            counts.accounted - self._inputs_before,
            counts.completion_tokens - self._tokens_before,
            time.monotonic() - self._started,
        )


class Verdicts:
    """The judge's part of a session: pairs for the writer, and the measure of who made them."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._writer = job.writer
        self._model = engine.identity().model
        self.rejections = Rejections(self._writer, job.config_digest, engine="the judge's engine")
        self.measured = Measured(self._model)
        self.measured.read(job.config.out)
        self._judge = Judge(engine, config=job.config.judging)
        self._pairs = PairMaker(
            self._judge,
            job.constitution,
            ranking=job.config.ranking,
            seed=job.config.seed,
            policy_digest=job.policy_digest,
        )

    async def check(self) -> None:
        """Fail before the first row where the judge cannot answer at all."""
        try:
            await _patiently(self._judge.check)
        except (JudgeError, UnsupportedError) as exc:
            raise ConfigError(
                f"the judge {self._model} does not answer with A or B: {exc}; name another with "
                "--judge, lower judging.min_mass, or make transcripts alone with --judge none",
                param="judge",
            ) from exc

    async def account_for(
        self,
        row: PromptRow,
        transcript: Transcript,
        samples: tuple[str, ...],
        line: dict[str, Any],
    ) -> None:
        """Keep an input with its pairs, or reject it and say why; `line` is its transcript row."""
        try:
            judged = await _patiently(lambda: self._pairs.make(row, transcript, samples))
        except CaiError as exc:
            self.rejections.failed(row, exc, stage="judge", transcript=line)
            return
        self.rejections.clear()
        line |= judged.beside
        self.measured.add_pairs(judged.rows)
        self.measured.add_transcript(line)
        if judged.rows:
            self._writer.keep(line, judged.rows)
        else:
            self.rejections.reject(
                row, stage="judge", reason=judged.reason, detail=judged.detail, transcript=line
            )
