"""Draft, critique, revise: what is asked, what is kept, and how it ends."""

import asyncio
from itertools import pairwise

import pytest

from cai.constitution.schema import draw
from cai.critique.loop import critique, revise
from cai.critique.prompts import ask_critique, ask_revision
from cai.engine.scripted import ScriptedEngine
from cai.errors import (
    ConstitutionError,
    ContextLengthError,
    InputError,
    NotFoundError,
    PromptError,
)
from cai.types import Message, Sampling, Usage
from tests.critique.helpers import (
    ASK,
    CRITIQUE,
    ONLY_COMPARES,
    PRINCIPLES,
    REVISION,
    TOY,
    TURNS,
    Model,
    constitution,
    kind_of,
)


async def run(model: Model, conversation=ASK, of=TOY, **options):
    return await revise(model.engine, conversation, of, **{"row": "r", **options})


async def test_a_draft_is_criticised_and_revised():
    model = Model()
    transcript = await run(model, principles=["kind"])
    step = transcript.steps[0]
    assert (transcript.draft, transcript.answer) == ("Seven minutes.", REVISION)
    assert (step.principle, step.status, step.critique) == ("kind", "revised", CRITIQUE)
    assert (step.revision, step.revision_raw, step.problem) == (REVISION, None, None)
    assert (transcript.constitution, transcript.constitution_digest) == ("toy@1", TOY.digest)
    assert (transcript.policy, transcript.draft_finish_reason) == ("scripted", "stop")
    assert transcript.prompt == ASK


async def test_each_prompt_extends_the_one_before():
    model = Model()
    await run(model, TURNS, revisions=2)
    assert [kind_of(m) for m in model.asked] == ["draft", *["critique", "revision"] * 2]
    assert model.asked[0] == TURNS
    for shorter, longer in pairwise(model.asked):
        assert longer[: len(shorter)] == shorter
    first = (*TURNS, Message("assistant", "Seven minutes."))
    asked = ask_critique(first, model.asked[1][-1].content.split("\n\n")[0])
    assert model.asked[1] == asked
    assert model.asked[2][: len(asked) + 1] == (*asked, Message("assistant", CRITIQUE))


async def test_usage_is_the_sum_of_all_calls():
    """This engine's tokens are words."""
    model = Model()
    transcript = await run(model, revisions=1)
    words = sum(len(m.content.split()) for asked in model.asked for m in asked)
    answers = sum(len(text.split()) for text in ("Seven minutes.", CRITIQUE, REVISION))
    assert transcript.usage == Usage(words, answers)


async def test_principles_are_drawn_anew_at_each_step_by_row_and_seed():
    model = Model()
    transcript = await run(model, revisions=3, row="row-7", seed=5)
    assert [s.principle for s in transcript.steps] == [
        draw(TOY, step="critique", seed=5, row="row-7", index=i).id for i in range(3)
    ]
    again = await run(Model(), revisions=3, row="row-7", seed=5)
    assert [s.principle for s in again.steps] == [s.principle for s in transcript.steps]
    drawn = {
        tuple(s.principle for s in (await run(Model(), revisions=3, row=f"{i}")).steps)
        for i in range(20)
    }
    assert len(drawn) > 5


async def test_named_principles_are_taken_in_turn():
    transcript = await run(Model(), revisions=3, principles=["true", "kind"])
    assert [s.principle for s in transcript.steps] == ["true", "kind", "true"]


async def test_principles_that_will_not_do_are_refused_before_the_draft():
    for principles, of, expected in (
        (["kin"], TOY, NotFoundError),
        ([], TOY, InputError),
        (["judge-only"], constitution(*PRINCIPLES, ONLY_COMPARES), InputError),
        (None, constitution(ONLY_COMPARES), ConstitutionError),
    ):
        model = Model()
        with pytest.raises(expected):
            await run(model, of=of, principles=principles)
        assert model.asked == []


async def test_no_revisions_is_a_draft_and_fewer_is_refused():
    transcript = await run(Model(), revisions=0)
    assert (transcript.steps, transcript.answer) == ((), "Seven minutes.")
    with pytest.raises(InputError, match="revisions is -1"):
        await run(Model(), revisions=-1)


async def test_a_critique_that_finds_nothing_ends_the_loop():
    model = Model(critiques=(CRITIQUE, "No change needed."))
    transcript = await run(model, revisions=4)
    assert [s.status for s in transcript.steps] == ["revised", "no_change"]
    assert transcript.steps[1].revision is None
    assert transcript.answer == REVISION
    assert transcript.answer_after(4) == REVISION
    assert transcript.answer_after(0) == "Seven minutes."


@pytest.mark.parametrize(
    ("revision", "problem", "sampling"),
    [
        ("", "empty", Sampling()),
        ("  \n", "empty", Sampling()),
        ("Here is a revised answer:", "empty", Sampling()),
        ("one two three four five six", "cut_off", Sampling(max_tokens=4)),
        ("The last reply is rude.", "is_critique", Sampling()),
        (CRITIQUE, "is_critique", Sampling()),
        ("?!", "degenerate", Sampling()),
    ],
)
async def test_an_unusable_revision_keeps_the_answer_and_the_context(revision, problem, sampling):
    model = Model(revisions=(revision, "A good one."))
    transcript = await run(model, revisions=2, sampling=sampling, principles=["kind"])
    first, second = transcript.steps
    assert (first.status, first.problem, first.revision) == ("unusable", problem, None)
    assert first.revision_raw == (revision if problem != "cut_off" else "one two three four")
    assert model.asked[3] == model.asked[1], "the second critique is of the draft again"
    assert (second.status, transcript.answer) == ("revised", "A good one.")
    assert transcript.answer_after(1) == transcript.draft


async def test_an_empty_critique_is_unusable_and_asks_for_no_revision():
    model = Model(critiques=("  ", CRITIQUE))
    transcript = await run(model, revisions=2)
    assert [(s.status, s.problem) for s in transcript.steps] == [
        ("unusable", "empty"),
        ("revised", None),
    ]
    assert [kind_of(m) for m in model.asked] == ["draft", "critique", "critique", "revision"]


async def test_a_preamble_is_stripped_from_the_answer_and_kept_in_the_context():
    raw = "Sure, here is a revised answer: Seven minutes, please."
    model = Model(revisions=(raw,))
    transcript = await run(model, revisions=2)
    assert transcript.answer == REVISION
    assert transcript.steps[0].revision_raw == raw
    assert Message("assistant", raw) in model.asked[3]


async def test_reasoning_is_kept_apart_everywhere():
    model = Model(
        drafts=("<think>d</think>Draft.",),
        critiques=("<think>c</think>It is rude.",),
        revisions=("r\n</think>\n\nBetter.",),
    )
    transcript = await run(model)
    assert (transcript.draft, transcript.draft_reasoning) == ("Draft.", "d")
    step = transcript.steps[0]
    assert (step.critique, step.revision, step.reasoning) == ("It is rude.", "Better.", "c\n\nr")
    assert not any("think>" in m.content for asked in model.asked for m in asked)


async def test_a_draft_of_nothing_but_reasoning_is_not_criticised():
    model = Model(drafts=("<think>and so on",))
    transcript = await run(model, revisions=2)
    assert (transcript.draft, transcript.draft_reasoning) == ("", "and so on")
    assert transcript.steps == ()
    assert len(model.asked) == 1


FEW_SHOT = {
    "messages": [
        {"role": "system", "content": "Example system."},
        {"role": "user", "content": "Example question"},
    ],
    "response": "Example answer",
    "critique": "Example critique",
    "revision": "Example revision",
}


async def test_worked_examples_come_after_the_system_message():
    model = Model()
    await run(model, TURNS, of=constitution(*PRINCIPLES, few_shot=[FEW_SHOT]), principles=["kind"])
    assert model.asked[0] == TURNS, "a draft is asked for without examples"
    shown = (
        TURNS[0],
        Message("user", "Example question"),
        Message("assistant", "Example answer"),
    )
    shown = ask_critique(shown, PRINCIPLES[0]["critique"])
    shown = ask_revision(
        (*shown, Message("assistant", "Example critique")), PRINCIPLES[0]["revision"]
    )
    shown = (*shown, Message("assistant", "Example revision"), *TURNS[1:])
    assert model.asked[1][: len(shown)] == shown
    assert model.asked[2][: len(model.asked[1])] == model.asked[1]


async def test_worked_examples_do_not_pile_up_in_the_context():
    model = Model()
    of = constitution(*PRINCIPLES, few_shot=[FEW_SHOT])
    await run(model, of=of, revisions=3)
    assert all(sum(m.content == "Example answer" for m in a) == 1 for a in model.asked[1:])


async def test_seeds_differ_from_call_to_call_and_are_the_same_again():
    seeds = []
    for _ in range(2):
        model = Model()
        transcript = await run(model, revisions=2, sampling=Sampling(seed=2**63 - 1))
        seeds.append([s.seed for s in model.samplings])
        assert transcript.seed_honoured is True
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 5
    assert all(0 <= seed < 2**63 for seed in seeds[0])
    other = Model()
    await run(other, revisions=2, sampling=Sampling(seed=1))
    assert not set(seeds[0]) & {s.seed for s in other.samplings}
    unseeded = Model()
    assert (await run(unseeded)).seed_honoured is None
    assert {s.seed for s in unseeded.samplings} == {None}


async def test_one_answer_without_log_probs_is_asked_for_whatever_the_sampling_says():
    model = Model()
    await run(model, sampling=Sampling(n=4, logprobs=3, temperature=0.5, max_tokens=50))
    assert {(s.n, s.logprobs, s.temperature, s.max_tokens) for s in model.samplings} == {
        (1, None, 0.5, 50)
    }


@pytest.mark.parametrize(
    ("where", "stage"),
    [("drafts", "draft"), ("critiques", "critique-2"), ("revisions", "revision-2")],
)
async def test_an_error_says_at_which_stage_it_came(where, stage):
    before = () if where == "drafts" else (CRITIQUE if where == "critiques" else REVISION,)
    model = Model(**{where: (*before, ContextLengthError("too long"))})
    with pytest.raises(ContextLengthError) as caught:
        await run(model, revisions=3)
    assert caught.value.stage == stage


async def test_progress_is_reported_after_the_draft_and_each_step():
    seen = []
    transcript = await run(Model(), revisions=2, on_progress=seen.append)
    assert [len(t.steps) for t in seen] == [0, 1, 2]
    assert seen[-1] == transcript
    assert all(step.seconds > 0 for step in transcript.steps)


async def test_cancelling_aborts_the_call_in_flight():
    engine = ScriptedEngine.answering("x", delay_s=30)
    task = asyncio.create_task(revise(engine, ASK, TOY, row="r"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (engine.num_calls, engine.num_aborted) == (1, 1)


@pytest.mark.parametrize(
    "conversation",
    [
        (),
        (Message("user", " \n"),),
        (Message("system", "Be kind."),),
        (*ASK, Message("assistant", "Seven.")),
    ],
)
async def test_a_conversation_that_nobody_can_answer_is_refused(conversation):
    with pytest.raises(PromptError):
        await run(Model(), conversation)
    with pytest.raises(PromptError):
        await critique(Model().engine, conversation, "x", TOY)
