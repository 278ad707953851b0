"""Draft, critique, revise. Knows prompts and an engine; knows nothing of files or HTTP.

Start from `revise`; `critique` judges an answer that somebody else wrote. Method: Bai et al. 2022,
"Constitutional AI" (arXiv 2212.08073), section 3: one principle is drawn anew at each step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cai.constitution.schema import Constitution, Principle, draw
from cai.critique.prompts import ask_critique, ask_revision
from cai.critique.records import Step, Transcript
from cai.critique.text import finds_nothing, revision_problem, split_reasoning, strip_preamble
from cai.engine.base import Engine
from cai.errors import CaiError, InputError, PromptError
from cai.types import ChatPrompt, Conversation, Generation, Message, Sampling, Usage

OnProgress = Callable[[Transcript], None]

_SEED_STRIDE = 0x9E3779B9  # keeps the sampling seeds of one transcript's calls apart


@dataclass(frozen=True, slots=True)
class Critique:
    """What one principle's critique says of an answer; `finding`: whether it found anything."""

    principle: str
    text: str
    finding: bool
    usage: Usage = field(default_factory=Usage)


async def revise(
    engine: Engine,
    conversation: Conversation,
    constitution: Constitution,
    *,
    revisions: int = 1,
    row: str,
    seed: int = 0,
    principles: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    on_progress: OnProgress | None = None,
) -> Transcript:
    """Answer `conversation`, then critique and revise the answer up to `revisions` times.

    Each step draws its principle by a hash of (seed, row, step, principle id), or takes the ids in
    `principles` in turn. A critique that finds nothing ends the loop. `on_progress` gets the
    transcript so far, after the draft and after each step.

    Raises what the engine raises, with `stage` set to `draft`, `critique-N` or `revision-N`.
    Cancelling aborts the call in flight.
    """
    check_conversation(conversation)
    sampling = replace(sampling or Sampling(), n=1, logprobs=None)
    chosen = _principles_for(constitution, revisions, row=row, seed=seed, principles=principles)
    drafted = await _ask(engine, conversation, sampling, stage="draft")
    draft = split_reasoning(drafted.text)
    transcript = Transcript(
        prompt=conversation,
        draft=draft.text.strip(),
        steps=(),
        constitution=constitution.ref,
        constitution_digest=constitution.digest,
        policy=drafted.policy,
        usage=drafted.usage,
        draft_reasoning=draft.reasoning,
        draft_finish_reason=drafted.completions[0].finish_reason,
        seed_honoured=drafted.seed_honoured,
    )
    _report(on_progress, transcript)
    if not transcript.draft:
        return transcript  # nothing was said, so there is nothing to critique
    context = (*conversation, Message("assistant", draft.text))
    for number, principle in enumerate(chosen, start=1):
        done = await _step(engine, context, constitution, principle, sampling, number)
        context = done.context
        transcript = replace(
            transcript,
            steps=(*transcript.steps, done.step),
            usage=transcript.usage + done.usage,
        )
        _report(on_progress, transcript)
        if done.step.status == "no_change":
            break
    return transcript


async def critique(
    engine: Engine,
    conversation: Conversation,
    response: str,
    constitution: Constitution,
    *,
    principles: Sequence[str] | None = None,
    sampling: Sampling | None = None,
) -> list[Critique]:
    """One critique of `response` per principle: those named, or all that have a critique text.

    All are asked at once; the first error cancels the rest and is raised as itself.
    """
    check_conversation(conversation)
    if not response.strip():
        raise PromptError("the response to critique is empty", param="response")
    chosen = _critics(constitution, principles)
    context = (*conversation, Message("assistant", response))
    sampling = replace(sampling or Sampling(), n=1, logprobs=None)

    async def one(index: int, principle: Principle) -> Critique:
        request = ask_critique(
            _with_examples(constitution, context, principle), _text(principle, "critique")
        )
        generation = await _ask(engine, request, _reseed(sampling, index), stage="critique-1")
        text = split_reasoning(generation.text).text.strip()
        finding = bool(text) and not finds_nothing(text)
        return Critique(principle.id, text, finding, generation.usage)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(i, principle)) for i, principle in enumerate(chosen)]
    except ExceptionGroup as errors:
        raise _first(errors) from errors
    return [task.result() for task in tasks]


def check_conversation(conversation: Conversation) -> None:
    """Refuse a conversation that no assistant turn can follow."""
    if not conversation:
        raise PromptError("the conversation is empty; give at least one user message")
    if conversation[-1].role != "user":
        raise PromptError(
            f"the last message is from '{conversation[-1].role}'; it must be from 'user'",
            param="messages",
        )
    if not conversation[-1].content.strip():
        raise PromptError("the last message is empty; there is nothing to answer", param="messages")


@dataclass(frozen=True, slots=True)
class _Done:
    step: Step
    context: Conversation
    usage: Usage


async def _step(
    engine: Engine,
    context: Conversation,
    constitution: Constitution,
    principle: Principle,
    sampling: Sampling,
    number: int,
) -> _Done:
    started = time.perf_counter()
    done = await _critique_and_revise(engine, context, constitution, principle, sampling, number)
    return replace(done, step=replace(done.step, seconds=time.perf_counter() - started))


async def _critique_and_revise(
    engine: Engine,
    context: Conversation,
    constitution: Constitution,
    principle: Principle,
    sampling: Sampling,
    number: int,
) -> _Done:
    request = ask_critique(
        _with_examples(constitution, context, principle), _text(principle, "critique")
    )
    criticised = await _ask(
        engine, request, _reseed(sampling, 2 * number - 1), stage=f"critique-{number}"
    )
    said = split_reasoning(criticised.text)
    critique_text = said.text.strip()
    step = Step(principle.id, critique_text, "unusable", reasoning=said.reasoning)
    if not critique_text:
        return _Done(replace(step, problem="empty"), context, criticised.usage)
    if finds_nothing(critique_text):
        return _Done(replace(step, status="no_change"), context, criticised.usage)

    asked = ask_revision((*request, Message("assistant", said.text)), _text(principle, "revision"))
    revised = await _ask(engine, asked, _reseed(sampling, 2 * number), stage=f"revision-{number}")
    raw = split_reasoning(revised.text)
    text = strip_preamble(raw.text)
    usage = criticised.usage + revised.usage
    step = replace(step, reasoning=_join(said.reasoning, raw.reasoning))
    problem = revision_problem(
        text, critique=critique_text, finish_reason=revised.completions[0].finish_reason
    )
    if problem is not None:
        return _Done(replace(step, problem=problem, revision_raw=raw.text), context, usage)
    unstripped = raw.text if raw.text.strip() != text else None
    step = replace(step, status="revised", revision=text, revision_raw=unstripped)
    return _Done(step, (*context, *asked[-3:], Message("assistant", raw.text)), usage)


async def _ask(
    engine: Engine, conversation: Conversation, sampling: Sampling, *, stage: str
) -> Generation:
    try:
        return await engine.generate(ChatPrompt(conversation), sampling)
    except CaiError as exc:
        exc.stage = stage
        raise


def _critics(constitution: Constitution, principles: Sequence[str] | None) -> list[Principle]:
    """Those that are asked for a critique."""
    if principles is not None:
        named = _named(constitution, principles)
        for principle in named:
            _text(principle, "critique")
        return named
    chosen = list(constitution.candidates("critique"))
    if not chosen:
        raise InputError(
            f"no principle of {constitution.ref} has a critique text; add one",
            param="constitution",
        )
    return chosen


def _named(constitution: Constitution, principles: Sequence[str]) -> list[Principle]:
    if not principles:
        raise InputError(
            "the list of principles is empty; leave it out to have them chosen", param="principles"
        )
    return [constitution.principle(name) for name in principles]


def _principles_for(
    constitution: Constitution,
    revisions: int,
    *,
    row: str,
    seed: int,
    principles: Sequence[str] | None,
) -> list[Principle]:
    if revisions < 0:
        raise InputError(f"revisions is {revisions}; give 0 or more", param="revisions")
    if principles is not None:
        named = _named(constitution, principles)
        for principle in named:
            _text(principle, "critique"), _text(principle, "revision")
        return [named[index % len(named)] for index in range(revisions)]
    return [
        draw(constitution, step="critique", seed=seed, row=row, index=index)
        for index in range(revisions)
    ]


def _with_examples(
    constitution: Constitution, context: Conversation, principle: Principle
) -> Conversation:
    """Put the constitution's worked examples before the conversation, after a system message.

    They show whose reply is meant, which keeps small models from critiquing the user. A system
    message of theirs is left out: most templates take one only at the start.
    """
    if not constitution.few_shot:
        return context
    system = context[:1] if context[0].role == "system" else ()
    shown: Conversation = system
    for example in constitution.few_shot:
        turns = tuple(turn for turn in example.conversation if turn.role != "system")
        shown = (*shown, *turns, Message("assistant", example.response))
        shown = ask_critique(shown, _text(principle, "critique"))
        shown = (*shown, Message("assistant", example.critique))
        shown = ask_revision(shown, _text(principle, "revision"))
        shown = (*shown, Message("assistant", example.revision))
    return (*shown, *context[len(system) :])


def _text(principle: Principle, which: str) -> str:
    text: str | None = getattr(principle, which)
    if text is None:
        raise InputError(
            f"principle '{principle.id}' has no {which} text; add one, or choose another principle",
            param="principles",
        )
    return text


def _reseed(sampling: Sampling, call: int) -> Sampling:
    if sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + call * _SEED_STRIDE) % 2**63)


def _join(*parts: str | None) -> str | None:
    return "\n\n".join(part for part in parts if part) or None


def _report(on_progress: OnProgress | None, transcript: Transcript) -> None:
    if on_progress is not None:
        on_progress(transcript)


def _first(errors: ExceptionGroup) -> Exception:
    """The first error raised on purpose; the whole group when there is none: that is a bug."""
    for error in errors.exceptions:
        inner = _first(error) if isinstance(error, ExceptionGroup) else error
        if isinstance(inner, CaiError):
            return inner
    return errors
