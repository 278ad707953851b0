"""Several samples of each prompt, ranked with the revision: which pairs of them are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.judged import (
    by_worth,
    generate,
    manifest,
    policy,
    rows,
    worth,
    write_prompts,
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "prompts.txt", 12)


SAMPLES = ("A sample worth 1.", "A sample worth -1.", "A sample worth 3.")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("best-worst", [("sample-4", "sample-3")]),
        (
            "adjacent",
            [
                ("sample-4", "revision-1"),
                ("revision-1", "sample-2"),
                ("sample-2", "draft"),
                ("draft", "sample-3"),
            ],
        ),
    ],
)
async def test_samples_and_the_revision_meet_in_one_ranking(
    tmp_path: Path, pairs: str, expected: list[tuple[str, str]]
) -> None:
    """Worth: draft 0, samples 1, -1 and 3, the revision 2."""
    out = tmp_path / "run"
    await generate(
        write_prompts(tmp_path / "p.txt", 3),
        out,
        policy(samples=SAMPLES),
        samples=4,
        ranking={"pairs": pairs},
    )
    transcript = rows(out, "transcripts.jsonl")[0]
    mine = [row for row in rows(out) if row["input_id"] == transcript["input_id"]]
    assert [(row["origin"]["chosen"], row["origin"]["rejected"]) for row in mine] == expected
    assert [one["answer"] for one in transcript["ranking"]] == [
        *("sample-4", "revision-1", "sample-2", "draft", "sample-3"),
    ]
    scores = [one["score"] for one in transcript["ranking"]]
    assert scores == sorted(scores, reverse=True)
    assert [worth(text) for text in transcript["samples"]] == [1.0, -1.0, 3.0]
    assert len(transcript["left_out"]) == 10 - len(expected)
    assert {one["reason"] for one in transcript["left_out"]} == {"not-wanted"}
    assert manifest(out)["judge_stats"]["scripted"]["pairs"] == 30


async def test_all_pairs_above_the_least_margin_are_kept(tmp_path: Path) -> None:
    """Five answers, ten pairs; the four neighbours are 1 apart: 2 p - 1 = tanh(0.5) = 0.46."""
    out = tmp_path / "run"
    prompts = write_prompts(tmp_path / "p.txt", 2)
    options: dict[str, Any] = {"samples": 4, "ranking": {"pairs": "all", "min_margin": 0.5}}
    await generate(prompts, out, policy(samples=SAMPLES), **options)
    assert len(rows(out)) == 2 * 6
    assert len({row["id"] for row in rows(out)}) == 12
    for row in rows(out):
        assert worth(row["chosen"][0]["content"]) - worth(row["rejected"][0]["content"]) >= 2
    reasons = [one["reason"] for one in rows(out, "transcripts.jsonl")[0]["left_out"]]
    assert reasons == ["small-margin"] * 4


async def test_samples_alone_are_compared_without_revisions(tmp_path: Path) -> None:
    out = tmp_path / "run"
    engine = policy(samples=("A sample worth 1.",))
    await generate(write_prompts(tmp_path / "p.txt", 2), out, engine, samples=2, revisions=0)
    assert [row["origin"] for row in rows(out)] == [{"chosen": "sample-2", "rejected": "draft"}] * 2
    assert all(row["transcript"]["steps"] == [] for row in rows(out))


async def test_usage_sums_the_samples_too(tmp_path: Path) -> None:
    """Each answer has 4 words and 'To prompt 000.' 3 more: a draft and three samples give 28."""
    out = tmp_path / "run"
    engine = policy(samples=SAMPLES)
    await generate(write_prompts(tmp_path / "p.txt", 1), out, engine, samples=4, revisions=0)
    assert rows(out, "transcripts.jsonl")[0]["usage"]["completion_tokens"] == 4 * 7


async def test_answers_no_judge_should_see_are_excluded_from_the_ranking(tmp_path: Path) -> None:
    out = tmp_path / "run"
    engine = policy(samples=("no {prompt}" + " no" * 12, *SAMPLES[1:]))
    await generate(write_prompts(tmp_path / "p.txt", 1), out, engine, samples=4)
    (transcript,) = rows(out, "transcripts.jsonl")
    assert transcript["excluded"] == {"sample-2": "degenerate"}
    assert "sample-2" not in [one["answer"] for one in transcript["ranking"]]


async def test_cycle_among_answers_is_told_and_no_pair_goes_against_its_label(
    tmp_path: Path,
) -> None:
    """Rock, paper, scissors: rated alike, so they stand as they came; only rock > scissors fits."""
    beats = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}

    def taste(a: str, b: str, _question: str) -> float:
        return 0.8 if (a.split()[0], b.split()[0]) in beats else 0.2

    out = tmp_path / "run"
    await generate(
        write_prompts(tmp_path / "p.txt", 1),
        out,
        policy(draft="rock", samples=("paper", "scissors"), taste=taste),
        samples=3,
        revisions=0,
        ranking={"pairs": "all"},
    )
    (transcript,) = rows(out, "transcripts.jsonl")
    assert transcript["cycles"] == [["draft", "sample-2", "sample-3"]]
    assert len(rows(out)) == 1
    assert [one["reason"] for one in transcript["left_out"]] == ["against-order"] * 2
    for row in rows(out):
        assert (
            row["chosen"][0]["content"].split()[0],
            row["rejected"][0]["content"].split()[0],
        ) in (beats)


async def test_every_wanted_pair_without_a_verdict_rejects_the_input_for_that_reason(
    tmp_path: Path,
) -> None:
    """Three answers, and the judge is split between the best and the worst of them."""

    def taste(a: str, b: str, question: str) -> float:
        far = abs(worth(a) - worth(b)) == 4
        return 0.7 if far else by_worth(a, b, question)

    out = tmp_path / "run"
    engine = policy(samples=("A sample worth -2.",), taste=taste)
    await generate(write_prompts(tmp_path / "p.txt", 1), out, engine, samples=2)
    (rejected,) = rows(out, "rejected.jsonl")
    assert rejected["reason"] == "tie"
    reasons = [one["reason"] for one in rows(out, "transcripts.jsonl")[0]["left_out"]]
    assert sorted(reasons) == ["not-wanted", "not-wanted", "tie"]
