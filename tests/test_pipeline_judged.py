"""Runs with a judge: which pairs are made of a draft and its revision, and why others are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai.engine.scripted import ScriptedEngine
from tests.judged import (
    CONSTITUTION,
    Scores,
    by_worth,
    generate,
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


async def test_row_has_every_field_and_p_chosen_is_the_mean_of_both_orders(
    prompts: Path, tmp_path: Path
) -> None:
    """P(revision) is 0.95 shown first and 0.8 shown second: 0.875, and 0.075 for the position."""

    def taste(a: str, _b: str, _question: str) -> float:
        return 0.95 if "revision" in a else 0.2

    out = tmp_path / "run"
    summary = await generate(prompts, out, policy(taste=taste, digest="sha256:d"))
    assert (summary.progress.counts.kept, summary.progress.counts.pairs) == (12, 12)
    row = next(row for row in rows(out) if row["prompt"][0]["content"] == "prompt 003")
    (transcript,) = (
        one for one in rows(out, "transcripts.jsonl") if one["input_id"] == row["input_id"]
    )
    assert row["chosen"] == [{"role": "assistant", "content": "A revision worth 2."}]
    assert row["rejected"] == [{"role": "assistant", "content": "A draft worth 0. To prompt 003."}]
    assert row["p_chosen"] == pytest.approx(0.875)
    label = row["label"]
    assert label["order_ab"] == pytest.approx({"A": math.log(0.95), "B": math.log(0.05)})
    assert label["order_ba"] == pytest.approx({"A": math.log(0.2), "B": math.log(0.8)})
    assert label["position_bias"] == pytest.approx(0.075)
    assert label["mass"] == pytest.approx([1.0, 1.0])
    assert label["judge"] == {"policy": "scripted", "digest": "sha256:d"}
    assert label["principles"][0] in {"p0", "p1", "p2"}
    assert label["template"] == manifest(out)["config"]["judge_template"]
    assert row["constitution"] == {"ref": "t@1", "digest": CONSTITUTION.digest}
    assert row["policy"] == {"id": "scripted", "digest": "sha256:d"}
    assert row["transcript"] == {"draft": transcript["draft"], "steps": transcript["steps"]}
    assert {"principle", "critique", "revision"} <= set(row["transcript"]["steps"][0])
    assert row["origin"] == {"chosen": "revision-1", "rejected": "draft"}
    assert (row["format"], row["source"], row["weight"]) == (1, "ai", 1.0)
    assert row["id"].startswith("sha256:")


async def test_revision_is_chosen_only_where_the_judge_prefers_it(
    prompts: Path, tmp_path: Path
) -> None:
    """Prompts with an even number ask for the long answer, and the draft is that."""

    def taste(a: str, b: str, _question: str) -> float:
        even = number_in(a + b) % 2 == 0
        return 0.9 if ("draft" in a) == even else 0.1

    await generate(prompts, tmp_path / "run", policy(taste=taste))
    for row in rows(tmp_path / "run"):
        even = number_in(row["prompt"][0]["content"]) % 2 == 0
        assert row["origin"]["chosen"] == ("draft" if even else "revision-1")
        assert row["p_chosen"] == pytest.approx(0.9)
        assert row["label"]["order_ab"]["A"] == pytest.approx(math.log(0.9))


@pytest.mark.parametrize(
    ("engine", "judging", "reason"),
    [
        (lambda: policy(critique="No change needed."), {}, "no-change"),
        (lambda: policy(revision="..."), {}, "unusable-revision"),
        (lambda: policy(revision="A  draft worth 0. To prompt 000."), {}, "unchanged"),
        (lambda: policy(taste=lambda _a, _b, _q: 0.8), {}, "tie"),
        (lambda: policy(taste=lambda a, _b, _q: 0.9 if "dra" in a else 0.7), {}, None),
        (
            lambda: policy(taste=lambda a, _b, _q: 0.9 if "dra" in a else 0.7),
            {"refuse_flips": True},
            "flip",
        ),
        (
            lambda: policy(taste=lambda a, _b, _q: 0.9 if "dra" in a else 0.3),
            {"max_bias": 0.05},
            "bias",
        ),
        (lambda: policy(draft="aaaaaaaaaaaaaaaaaaaaaaaaaaa: :"), {}, None),
        (lambda: policy(revision="Answer:"), {}, "degenerate"),
        (lambda: policy(), {"guards": {"max_answer_chars": 20}}, "over-long"),
    ],
)
async def test_input_without_a_pair_is_rejected_with_its_transcript_beside(
    tmp_path: Path,
    engine: Callable[[], ScriptedEngine],
    judging: dict[str, Any],
    reason: str | None,
) -> None:
    out = tmp_path / "run"
    await generate(write_prompts(tmp_path / "p.txt", 1), out, engine(), judging=judging)
    assert len(rows(out, "transcripts.jsonl")) == 1
    if reason is None:
        assert len(rows(out)) == 1
        return
    (rejected,) = rows(out, "rejected.jsonl")
    assert (rejected["stage"], rejected["reason"]) == ("judge", reason)
    assert "prompt 000" not in rejected["detail"]
    assert rows(out) == []


async def test_refused_verdict_keeps_what_was_measured_beside_the_transcript(
    tmp_path: Path,
) -> None:
    """0.7 for the one shown first in both orders but for 0.1 more for the draft: it is `a`."""
    engine = policy(taste=lambda a, _b, _q: 0.8 if "draft" in a else 0.7)
    out = tmp_path / "run"
    await generate(
        write_prompts(tmp_path / "p.txt", 1), out, engine, judging={"refuse_flips": True}
    )
    (transcript,) = rows(out, "transcripts.jsonl")
    (left_out,) = transcript["left_out"]
    assert (left_out["a"], left_out["b"], left_out["reason"]) == ("draft", "revision-1", "flip")
    assert left_out["refused"] is True
    assert left_out["p_chosen"] == pytest.approx(0.55)
    assert left_out["label"]["order_ab"]["A"] == pytest.approx(math.log(0.8))
    stats = manifest(out)["judge_stats"]["scripted"]
    assert (stats["pairs"], stats["flip_share"], stats["refused"]) == (1, 1.0, {"flip": 1})
    assert stats["position_bias"] == pytest.approx(0.25)


async def test_label_under_the_least_margin_makes_no_row(tmp_path: Path) -> None:
    """P(revision) is 0.6 in both orders: a margin of 0.2."""
    engine = policy(taste=lambda a, _b, _q: 0.6 if "revision" in a else 0.4)
    out = tmp_path / "run"
    prompts = write_prompts(tmp_path / "p.txt", 1)
    await generate(prompts, out, engine, ranking={"min_margin": 0.25})
    assert rows(out, "rejected.jsonl")[0]["reason"] == "small-margin"
    (left_out,) = rows(out, "transcripts.jsonl")[0]["left_out"]
    assert (left_out["a"], left_out["p_chosen"]) == ("revision-1", pytest.approx(0.6))
    assert "refused" not in left_out
    await generate(prompts, out, engine, ranking={"min_margin": 0.19}, mode="fresh")
    assert len(rows(out)) == 1


async def test_low_mass_of_some_verdicts_rejects_those_inputs(
    prompts: Path, tmp_path: Path
) -> None:
    """The letters hold 0.3 of the probability on every pair about prompt 005."""

    def spoil(asked: str, scores: Scores) -> Scores:
        cut = math.log(0.3) if "prompt 005" in asked else 0.0
        return {label: value + cut for label, value in scores.items()}

    out = tmp_path / "run"
    await generate(prompts, out, policy(spoil=spoil))
    (rejected,) = rows(out, "rejected.jsonl")
    assert (rejected["line"], rejected["reason"]) == (6, "low-mass")
    stats = manifest(out)["judge_stats"]["scripted"]
    assert (stats["pairs"], stats["refused"]) == (11, {"low-mass": 1})


async def test_same_prompt_twice_gives_two_inputs_and_two_ids(tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("prompt 000\nprompt 000\n")
    summary = await generate(prompts, tmp_path / "run")
    first, second = rows(tmp_path / "run")
    assert first["id"] != second["id"]
    assert first["input_id"] != second["input_id"]
    assert summary.progress.counts.duplicates == 1


async def test_duplicates_are_counted_among_the_rejected_too(tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("prompt 000\nprompt 000\n")
    engine = policy(critique="No change needed.")
    summary = await generate(prompts, tmp_path / "run", engine)
    assert (summary.progress.counts.kept, summary.progress.counts.duplicates) == (0, 1)


async def test_label_after_reasoning_is_clamped_and_says_so(prompts: Path, tmp_path: Path) -> None:
    """P(revision) is 0.95 shown first and 0.8 shown second: 0.875, held to 0.6."""

    def scores(prompt: Any, _labels: Any) -> Scores:
        asked = prompt.messages[0].content
        p_first = 0.95 if asked.find("A revision") < asked.find("A draft") else 0.2
        return {"A": math.log(p_first), "B": math.log(1 - p_first)}

    judge = ScriptedEngine(lambda _prompt, _sampling: "Both are short.", scores, model="judge")
    out = tmp_path / "run"
    await generate(prompts, out, judge_engine=judge, judging=no_canaries(cot=True))
    assert {row["p_chosen"] for row in rows(out)} == {0.6}
    assert {tuple(row["label"]["clamp"]) for row in rows(out)} == {(0.4, 0.6)}
    assert {row["origin"]["chosen"] for row in rows(out)} == {"revision-1"}


async def test_question_is_asked_in_both_orders_under_one_principle(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str]] = []

    def taste(a: str, b: str, question: str) -> float:
        asked.append((a, b, question))
        return by_worth(a, b, question)

    engine = policy(taste=taste)
    await generate(write_prompts(tmp_path / "p.txt", 1), tmp_path / "run", engine,
                   judging=no_canaries())  # fmt: skip
    _check, (a, b, first), (b_again, a_again, second) = asked
    assert (a, b, first) == (a_again, b_again, second)
    assert first.startswith("Which is better by ")
