"""Policies on suites: asked one policy after another, held against checks, figures and lines.

Engines are opened one at a time, since each may fill a device. Start from `evaluate`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from cai.constitution.schema import Constitution
from cai.engine.base import Engine
from cai.engine.model_folder import digest_model_folder
from cai.engine.open import SANDBOX_MODEL, open_engine, pinned
from cai.errors import CaiError, ConflictError
from cai.evaluate.policy_plan import Plan, address_of
from cai.evaluate.remembering import RememberingEngine
from cai.evaluate.results import EvalResult, JudgeRef, PolicyRef, new_id, now
from cai.evaluate.suite_answers import Answered, answer_suites
from cai.evaluate.suite_figures import suite_figures, worst
from cai.evaluate.suite_judging import Scored, Scorer
from cai.evaluate.suites import ReadySuite, default_suites
from cai.policy.address import folder_of
from cai.registry import load_object

_OF_THIS_WORLD: Final = "cai.sandbox.examine:is_of_this_world"

Opening = Callable[[str], AbstractAsyncContextManager[Engine]]


class Progress(NamedTuple):
    """Called as work is done: `begin(what, total)`, then `done()` for each."""

    begin: Callable[[str, int], None] = lambda _what, _total: None
    done: Callable[[], None] = lambda: None


class PolicyEvaluation(NamedTuple):
    """What came of a plan."""

    policies: tuple[PolicyRef, ...]
    judge: JudgeRef | None
    suites: tuple[ReadySuite, ...]
    scored: Mapping[str, Sequence[Scored]]
    """By policy, in the order of suites and prompts."""

    def figures(self) -> dict[str, Any]:
        """By suite, with the worst examples of each policy."""
        found = {}
        for ready in self.suites:
            name = ready.suite.name
            lines = {
                policy: [one for one in scored if one.answered.suite == name]
                for policy, scored in self.scored.items()
            }
            examples = {policy: worst(of_policy) for policy, of_policy in lines.items()}
            found[name] = {**suite_figures(ready, lines), "worst": examples}
        return {"suites": found}

    def result(self, plan: Plan, id: str | None = None) -> EvalResult:
        """The record to keep."""
        return EvalResult(
            id=id or new_id("policy"),
            kind="policy",
            created_at=now(),
            policies=self.policies,
            judge=self.judge,
            suites=tuple([ready.ref for ready in self.suites]),
            seed=plan.ask.seed,
            settings=plan.settings(),
            figures=self.figures(),
        )

    def files(self) -> dict[str, list[dict[str, Any]]]:
        """Lines beside the record."""
        every = [one for scored in self.scored.values() for one in scored]
        return {
            "answers.jsonl": [one.answered.as_dict() for one in every],
            "verdicts.jsonl": [one.as_dict() for one in every],
        }


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Engine]:
    """The engine at an address, closed in the end."""
    engine = await open_engine(await pinned(address))
    try:
        yield engine
    finally:
        await engine.aclose()


async def evaluate(
    plan: Plan, *, open_at: Opening = opened, progress: Progress | None = None
) -> PolicyEvaluation:
    """Ask every policy every prompt, then decide every check.

    Raises what `Plan.check` raises, before any engine is opened; engine errors say which policy.
    """
    plan.check()
    progress = progress or Progress()
    suites: list[ReadySuite] = [plan.ready(name) for name in plan.suites]
    refs: list[PolicyRef] = []
    answers: dict[str, list[Answered]] = {}
    for ref in plan.policies:
        with naming(ref):
            async with open_at(address_of(ref)) as engine:
                suites = suites or await _defaults(engine, plan)
                num = sum(len(ready.prompts) for ready in suites) * plan.ask.samples
                progress.begin(f"asking {ref}", num)
                answers[ref] = await answer_suites(
                    engine, ref, suites, plan.ask, on_answer=progress.done
                )
                identity = engine.identity()
        refs.append(PolicyRef(ref=ref, digest=identity.digest, model=identity.model))
    judge, scored = await _score(plan, suites, answers, open_at, progress)
    return PolicyEvaluation(tuple(refs), judge, tuple(suites), scored)


async def check_unchanged(result: EvalResult, *, open_at: Opening = opened) -> None:
    """Raise ConflictError where an address of a kept result stands for other weights now.

    What only a started engine could tell, and what told no digest, counts as unchanged.
    """
    measured = [(one.ref, address_of(one.ref), one.digest) for one in result.policies]
    if result.judge is not None:
        measured.append((result.judge.address, result.judge.address, result.judge.digest))
    for ref, address, then in measured:
        with naming(ref):
            now_ = None if then is None else await _digest_now(address, open_at)
        if now_ not in (None, then):
            raise ConflictError(
                f"'{result.id}' was measured when '{ref}' was {then}, and it is {now_} now; choose "
                "another --out",
                param="out",
            )


async def _digest_now(address: str, open_at: Opening) -> str | None:
    scheme, _, rest = address.partition(":")
    if (scheme := scheme.lower()) == "policy":
        folder = folder_of(rest)
    elif address == "sandbox":
        folder = SANDBOX_MODEL
    elif scheme == "vllm":
        folder = Path(rest).expanduser()
    else:  # a server or a script is opened at once
        async with open_at(address) as engine:
            return engine.identity().digest
    is_there = await asyncio.to_thread(folder.is_dir)
    return await asyncio.to_thread(digest_model_folder, folder) if is_there else None


async def _score(
    plan: Plan,
    suites: Sequence[ReadySuite],
    answers: Mapping[str, Sequence[Answered]],
    open_at: Opening,
    progress: Progress,
) -> tuple[JudgeRef | None, dict[str, list[Scored]]]:
    oracles = {
        ready.suite.name: ready.suite.oracle
        for ready in suites
        if plan.with_oracle and ready.suite.oracle is not None
    }

    async def all_with(scorer: Scorer) -> dict[str, list[Scored]]:
        progress.begin("checking", sum(map(len, answers.values())))
        return {
            policy: await scorer.score(lines, oracles=oracles, on_done=progress.done)
            for policy, lines in answers.items()
        }

    if plan.judge is None or plan.text_only or not any(r.suite.needs_judge for r in suites):
        return None, await all_with(Scorer())
    principles = plan.principles(set().union(*(ready.suite.principles() for ready in suites)))
    async with open_at(plan.judge) as engine:
        asking = RememberingEngine(engine)
        try:
            scored = await all_with(Scorer(asking, principles))
        finally:
            await asking.aclose()
        return judge_ref(plan.judge, engine, plan.constitution), scored


def judge_ref(address: str, engine: Engine, constitution: Constitution | None) -> JudgeRef:
    """Who judged, and by what."""
    identity = engine.identity()
    return JudgeRef(
        address=address,
        model=identity.model,
        digest=identity.digest,
        constitution=None if constitution is None else constitution.ref,
        constitution_digest=None if constitution is None else constitution.digest,
    )


async def _defaults(engine: Engine, plan: Plan) -> list[ReadySuite]:
    """The suites that fit the engine's world."""
    try:
        is_small = await load_object(_OF_THIS_WORLD)(engine)
    except CaiError:
        is_small = False  # an engine that cannot count tokens is another's server
    has_judge = plan.judge is not None and not plan.text_only
    suites = [plan.ready(n) for n in default_suites(of_small_world=is_small, has_judge=has_judge)]
    for ready in suites:
        plan.check_suite(ready)
    return suites


@contextmanager
def naming(ref: str) -> Iterator[None]:
    """Put a policy's name before the message of an error that its engine raises."""
    try:
        yield
    except CaiError as exc:
        exc.message = f"policy '{ref}': {exc.message}"
        exc.args = (exc.message,)
        raise
