"""Who judges a run, what is counted of it, when that stops the run, and what its faults cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai.engine.scripted import ScriptedEngine
from cai.errors import (
    ConfigError,
    ContextLengthError,
    EngineError,
    EngineTimeoutError,
    JudgeError,
    OverloadedError,
)
from cai.pipeline_config import GenerateConfig
from tests.judged import (
    CONSTITUTION,
    Scores,
    by_worth,
    check_run,
    generate,
    lines,
    manifest,
    no_canaries,
    number_in,
    policy,
    rows,
    write_prompts,
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.txt", 12)


async def test_canaries_ride_along_and_are_counted(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    judging = {"canaries": {"rate": 1.0, "attack_share": 0.0}}
    await generate(prompts, out, judging=judging)
    found = manifest(out)["canaries"]
    assert (found["asked"], found["held"], found["failed"]) == (12, 12, 0)
    canaries = [row["canary"] for row in rows(out, "transcripts.jsonl")]
    assert {one["status"] for one in canaries} == {"held"}
    assert sum(sum(n.values()) for n in found["principles"].values()) == 12
    assert manifest(out)["judge_stats"]["scripted"]["pairs"] == 12
    assert manifest(out)["warnings"] == []


async def test_judge_that_fails_canaries_is_warned_of_or_refused(
    prompts: Path, tmp_path: Path
) -> None:
    """It takes the canaries' worse answer, and judges the rest as it should."""

    def taste(a: str, b: str, question: str) -> float:
        return by_worth(b, a, question) if "Lie down" in a + b else by_worth(a, b, question)

    canaries = {"rate": 1.0, "attack_share": 0.0, "min_asked": 5}
    out = tmp_path / "run"
    summary = await generate(prompts, out, policy(taste=taste), judging={"canaries": canaries})
    assert summary.progress.counts.kept == 12
    (warning,) = summary.manifest["warnings"]
    assert "the judge failed 12 of 12 canaries" in warning

    refusing = {"canaries": {**canaries, "on_failure": "refuse"}}
    out = tmp_path / "refused"
    with pytest.raises(JudgeError, match="the judge failed 12 of 12 canaries"):
        await generate(prompts, out, policy(taste=taste), judging=refusing)
    assert not (out / "DONE").exists()
    assert manifest(out)["canaries"]["failed"] == 12
    check_run(out, 12, is_whole=False)


async def test_limits_that_refuse_stop_the_run_and_a_wider_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P(first) is 0.9 or 0.6, so the bias is 0.25: over 0.2. 10 pairs before it is looked at."""
    monkeypatch.setattr("cai.pipeline.FLUSH_S", 0.01)
    prompts = write_prompts(tmp_path / "p.txt", 60)

    def biased(**limits: Any) -> Any:
        engine = policy(taste=lambda a, _b, _q: 0.9 if "revis" in a else 0.6, delay_s=0.005)
        judging = no_canaries(limits={"min_pairs": 10, "max_flip_share": None, **limits})
        return generate(prompts, out, engine, judging=judging, concurrency=2)

    out = tmp_path / "run"
    for _ in range(2):  # a second try sees what the first has written
        with pytest.raises(JudgeError, match=r"position bias is 0\.250, the limit 0\.2 \(n=\d+\)"):
            await biased(max_bias=0.2, on_breach="refuse")
    check_run(out, 60, is_whole=False)
    before = len(rows(out))
    assert 10 <= before < 60
    assert manifest(out)["judge_stats"]["scripted"]["pairs"] == before
    summary = await biased(max_bias=0.3, on_breach="refuse")
    assert summary.progress.session_inputs == 60 - before
    assert manifest(out)["judge_stats"]["scripted"]["pairs"] == 60


async def test_limits_that_warn_are_in_the_manifest(prompts: Path, tmp_path: Path) -> None:
    engine = policy(taste=lambda a, _b, _q: 0.9 if "revision" in a else 0.6)
    judging = {"limits": {"min_pairs": 10, "max_bias": 0.2, "max_flip_share": 0.5}}
    summary = await generate(prompts, tmp_path / "run", engine, judging=judging)
    flips, bias = summary.manifest["warnings"]
    assert flips == "judge scripted: share of flips is 1.000, the limit 0.5 (n=12)"
    assert bias == "judge scripted: position bias is 0.250, the limit 0.2 (n=12)"


async def test_judge_on_its_own_engine_is_named_on_every_row(prompts: Path, tmp_path: Path) -> None:
    own, other = policy(), policy(model="second", digest="sha256:j")
    out = tmp_path / "run"
    await generate(prompts, out, own, judge_engine=other)
    assert {row["label"]["judge"]["policy"] for row in rows(out)} == {"second"}
    assert {row["policy"]["id"] for row in rows(out)} == {"scripted"}
    assert manifest(out)["judge"]["model"] == "second"
    assert (own.num_calls, other.num_calls) == (3 * 12, 2 * 12 + 1)
    (out / "DONE").unlink()
    with pytest.raises(ConfigError, match="judge's digest was sha256:j and is sha256:k"):
        await generate(prompts, out, own, judge_engine=policy(model="second", digest="sha256:k"))


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (ScriptedEngine.answering("A"), "the judge scripted does not answer with A or B: .*scores"),
        (ScriptedEngine(lambda _p, _s: "", lambda _p, _l: {"A": -0.1}), r"labels \['B'\]"),
        (ScriptedEngine(lambda _p, _s: "", lambda _p, _l: {"A": math.nan, "B": -1.0}), "A nan"),
        (
            ScriptedEngine(lambda _p, _s: "", lambda _p, _l: {"A": -5.0, "B": -5.0}),
            r"letters hold 0\.013",
        ),
    ],
)
async def test_judge_that_cannot_answer_is_refused_before_the_first_row(
    prompts: Path, tmp_path: Path, judge: ScriptedEngine, told: str
) -> None:
    engine, out = policy(), tmp_path / "run"
    with pytest.raises(ConfigError, match=told):
        await generate(prompts, out, engine, judge_engine=judge)
    assert engine.num_calls == 0
    await generate(prompts, out, engine)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3.0])
async def test_log_probs_that_are_none_reject_their_row_and_lose_nothing(
    prompts: Path, tmp_path: Path, bad: float
) -> None:
    def spoil(asked: str, scores: Scores) -> Scores:
        return {"A": bad, "B": -1.0} if "prompt 007" in asked else scores

    out = tmp_path / "run"
    await generate(prompts, out, policy(spoil=spoil))
    (rejected,) = rows(out, "rejected.jsonl")
    assert (rejected["line"], rejected["stage"], rejected["reason"]) == (8, "judge", "not-a-number")
    assert len(rows(out)) == 11


async def test_labels_that_the_judge_lacks_on_some_row_reject_that_row(
    prompts: Path, tmp_path: Path
) -> None:
    def spoil(asked: str, scores: Scores) -> Scores:
        return {"A": scores["A"]} if "prompt 007" in asked else scores

    out = tmp_path / "run"
    await generate(prompts, out, policy(spoil=spoil))
    (rejected,) = rows(out, "rejected.jsonl")
    assert (rejected["line"], rejected["reason"]) == (8, "no-label-tokens")


def failing_judge(on: str, error: Callable[[], Exception]) -> ScriptedEngine:
    """A judge that raises on pairs about what contains `on`."""

    def taste(a: str, b: str, question: str) -> float:
        if on in a + b:
            raise error()
        return by_worth(a, b, question)

    return policy(taste=taste, model="judge")


async def test_pair_too_long_for_the_judge_rejects_its_input(prompts: Path, tmp_path: Path) -> None:
    judge = failing_judge("prompt 003", lambda: ContextLengthError("9 tokens, 8 fit"))
    out = tmp_path / "run"
    await generate(prompts, out, judge_engine=judge)
    (rejected,) = rows(out, "rejected.jsonl")
    assert (rejected["stage"], rejected["reason"]) == ("judge", "over-long")


async def test_time_out_of_one_verdict_rejects_its_input_and_keeps_the_transcript(
    prompts: Path, tmp_path: Path
) -> None:
    judge = failing_judge("prompt 011", lambda: EngineTimeoutError("no answer within 5 s"))
    out = tmp_path / "run"
    await generate(prompts, out, judge_engine=judge)
    (rejected,) = rows(out, "rejected.jsonl")
    assert (rejected["stage"], rejected["reason"]) == ("judge", "engine-timeout")
    assert len(rows(out, "transcripts.jsonl")) == 12


async def test_judge_whose_engine_breaks_stops_the_run_and_rejects_nothing(tmp_path: Path) -> None:
    """The policy works on: that it does says nothing of the judge's engine."""
    prompts = write_prompts(tmp_path / "p.txt", 200)
    judge = failing_judge("draft", lambda: EngineError("broken"))
    out = tmp_path / "run"
    with pytest.raises(EngineError, match="the judge's engine failed on 64 inputs in a row"):
        await generate(prompts, out, judge_engine=judge, concurrency=4)
    assert rows(out, "rejected.jsonl") == []
    summary = await generate(prompts, out, judge_engine=policy(model="judge"))
    assert summary.progress.counts.kept == 200


async def test_full_queue_of_the_judge_is_waited_for_and_counted_once(
    prompts: Path, tmp_path: Path
) -> None:
    refused: set[str] = set()

    def taste(a: str, b: str, question: str) -> float:
        if a not in refused and "draft" in a:
            refused.add(a)
            raise OverloadedError("full", retry_after_s=0.01)
        return by_worth(a, b, question)

    out = tmp_path / "run"
    judging = {"canaries": {"rate": 1.0, "attack_share": 0.0}}
    await generate(prompts, out, policy(taste=taste), judging=judging)
    assert len(refused) == 12
    assert manifest(out)["canaries"]["asked"] == 12
    assert manifest(out)["judge_stats"]["scripted"]["pairs"] == 12


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"judging": {"min_mass": 0.4}}, r"judging\.min_mass was 0\.5 and is 0\.4"),
        (
            {"judging": {"guards": {"max_answer_chars": 9}}},
            r"judging\.guards\.max_answer_chars was 32000 and is 9",
        ),
        (
            {"judging": {"canaries": {"rate": 0.5}}},
            r"judging\.canaries\.rate was 0\.01 and is 0\.5",
        ),
        ({"ranking": {"pairs": "all"}}, r"ranking\.pairs was best-worst and is all"),
        ({"judging": {"cot": True}}, r"judge_template was .*judging\.cot was False and is True"),
        ({"samples": 2}, "samples was 1 and is 2"),
        ({"judge": "scripted:other.yaml"}, "judge was sandbox and is scripted:other.yaml"),
        ({"judge": "none"}, r"settings: judges was True and is False; .* and \d+ more"),
    ],
)
async def test_other_judge_setting_is_refused_by_name(
    prompts: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    await generate(prompts, tmp_path / "run")
    with pytest.raises(ConfigError, match=told):
        await generate(prompts, tmp_path / "run", **change)


async def test_settings_that_decide_no_row_may_differ(prompts: Path, tmp_path: Path) -> None:
    await generate(prompts, tmp_path / "run", limit=4)
    judging = {
        "max_in_flight": 2,
        "limits": {"max_bias": 0.1},
        "canaries": {"min_asked": 3, "on_failure": "refuse"},
    }
    await generate(prompts, tmp_path / "run", judging=judging)


async def test_statistics_of_a_resumed_run_equal_those_of_an_unbroken_one(tmp_path: Path) -> None:
    """Every pair has a bias of its own, so that sums in another order would differ."""

    def taste(a: str, b: str, _question: str) -> float:
        number = number_in(a + b)
        first = 0.5 + 0.4 * math.sin(number)
        return first if "revision" in a else 1 - first * (0.7 + 0.01 * number)

    prompts = write_prompts(tmp_path / "p.txt", 40)
    judging = {"canaries": {"rate": 0.5}, "refuse_flips": True, "tie_band": 0.02}
    options: dict[str, Any] = {"judging": judging}
    await generate(prompts, tmp_path / "whole", policy(taste=taste), **options)
    out = tmp_path / "run"
    for _ in range(3):
        engine = policy(taste=taste, delay_s=0.01)
        task = asyncio.create_task(generate(prompts, out, engine, concurrency=4, **options))
        await asyncio.sleep(0.12)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        check_run(out, 40, is_whole=False)
    await generate(prompts, out, policy(taste=taste), concurrency=3, **options)
    whole, broken = manifest(tmp_path / "whole"), manifest(out)
    assert len(broken["sessions"]) == 4
    assert lines(out) == lines(tmp_path / "whole")
    for key in ("judge_stats", "canaries", "warnings", "counts", "config_digest"):
        assert broken[key] == whole[key], key
    assert whole["judge_stats"]["scripted"]["refused"]["flip"] > 0
    assert whole["canaries"]["asked"] > 10


async def test_constitution_that_compares_nothing_is_refused_before_anything_is_made(
    prompts: Path, tmp_path: Path
) -> None:
    mute = CONSTITUTION.model_copy(
        update={
            "principles": tuple(
                one.model_copy(update={"compare": None}) for one in CONSTITUTION.principles
            )
        }
    )
    with pytest.raises(ConfigError, match=r"has a 'compare' text.*--judge none"):
        await generate(prompts, tmp_path / "run", constitution=mute)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"samples": 1, "revisions": 0}, "leave nothing to compare"),
        ({"samples": 6, "revisions": 4}, "up to 10 answers, a ranking takes 9"),
        ({"samples": 2, "judge": "none"}, "several samples need a judge"),
        ({"samples": 2, "temperature": 0.0}, "samples at temperature 0 are all the same"),
        ({"judge_args": {"max_model_len": 1}}, "judge_args need a judge on its own engine"),
    ],
)
def test_settings_that_can_make_no_pairs_are_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        GenerateConfig(prompts=Path("p.txt"), out=Path("run"), **config)
