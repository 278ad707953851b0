"""Which answers can be compared, and the judge's figures counted from a run's own lines."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cai.critique.records import Step, Transcript
from cai.dataset.judging import Answer, answers_of
from cai.dataset.measured import Measured
from cai.dataset.records import encode_row
from cai.errors import JudgeError
from cai.feedback.config import JudgeConfig
from cai.types import Message
from tests.dataset.rows import label


def transcript(*revisions: str | None, draft: str = "draft") -> Transcript:
    """A transcript whose steps revised to these texts; None is a step that changed nothing."""
    steps = tuple(
        Step("p", "c", "no_change") if text is None else Step("p", "c", "revised", revision=text)
        for text in revisions
    )
    return Transcript((Message("user", "Hi"),), draft, steps, "t@1", "sha256:c", "policy")


def test_draft_comes_first_then_samples_then_revisions() -> None:
    assert answers_of(transcript("better", "best"), ["other"]) == [
        Answer("draft", "draft"),
        Answer("sample-2", "other"),
        Answer("revision-1", "better"),
        Answer("revision-2", "best"),
    ]


def test_text_that_is_there_already_but_for_blanks_is_no_answer_of_its_own() -> None:
    found = answers_of(transcript("a  better\none", "draft "), ["a better one", " ", ""])
    assert [answer.origin for answer in found] == ["draft", "sample-2"]


def test_step_without_a_usable_revision_adds_nothing() -> None:
    unusable = Step("p", "c", "unusable", revision_raw="...", problem="degenerate")
    found = answers_of(transcript(None), [])
    assert [answer.origin for answer in found] == ["draft"]
    whole = transcript("better")
    both = Transcript(
        whole.prompt, whole.draft, (unusable, *whole.steps), "t@1", "sha256:c", "policy"
    )
    assert [answer.origin for answer in answers_of(both, [])] == ["draft", "revision-2"]


def test_no_more_than_nine_answers_are_compared() -> None:
    assert len(answers_of(transcript(*(f"r{i}" for i in range(9))), ["a", "b"])) == 9


def pair(p_ab: float, p_ba: float, **more: Any) -> dict[str, Any]:
    return {"p_chosen": (p_ab + p_ba) / 2, "label": label(p_ab, p_ba), **more}


def left_out(*pairs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"left_out": [{"a": "draft", "b": "revision-1", **one} for one in pairs], **more}


def test_rows_and_what_was_left_out_are_counted_together() -> None:
    """Biases 0.05, 0.05 and 0.35 (a flip that was refused); a fourth pair had no verdict."""
    measured = Measured("address")
    measured.add_pairs([pair(0.9, 0.8)])
    measured.add_transcript(left_out(pair(0.9, 0.8, reason="small-margin")))
    measured.add_transcript(left_out(pair(0.9, 0.2, reason="flip", refused=True)))
    measured.add_transcript(left_out({"reason": "low-mass"}))
    stats = measured.as_dict()["judge_stats"]
    assert set(stats) == {"judge-1"}, "the pair without a verdict is the one judge's too"
    found = stats["judge-1"]
    assert found["pairs"] == 3
    assert found["refused"] == {"flip": 1, "low-mass": 1}
    assert found["flip_share"] == pytest.approx(1 / 3)
    assert found["position_bias"] == pytest.approx(0.45 / 3)
    assert found["principles"]["kind"]["pairs"] == 3


def test_judge_that_never_gave_a_verdict_is_known_by_its_address() -> None:
    measured = Measured("address")
    measured.add_transcript(left_out({"reason": "low-mass"}))
    assert measured.as_dict()["judge_stats"]["address"]["refused"] == {"low-mass": 1}
    assert Measured("address").as_dict()["judge_stats"] == {}


def test_figures_do_not_depend_on_the_order_of_the_lines(tmp_path: Path) -> None:
    draws = random.Random(3)
    pairs = [pair(draws.random(), draws.random()) for _ in range(500)]
    found = []
    for name in ("a", "b"):
        draws.shuffle(pairs)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.jsonl").write_bytes(b"".join(encode_row(one) for one in pairs))
        measured = Measured("address")
        measured.read(folder)
        found.append(measured.as_dict())
    assert found[0] == found[1]


def test_canaries_are_counted_by_principle() -> None:
    measured = Measured("address")
    for principle, status in (("kind", "held"), ("kind", "failed"), ("true", "missing")):
        measured.add_transcript({"canary": {"principle": principle, "status": status}})
    assert measured.as_dict()["canaries"] == {
        "asked": 3,
        "held": 1,
        "failed": 1,
        "missing": 1,
        "principles": {"kind": {"failed": 1, "held": 1}, "true": {"missing": 1}},
    }


def test_limits_warn_or_refuse_by_what_was_measured() -> None:
    """Twice a bias of 0.35, which is over 0.25, and once a canary that failed."""
    measured = Measured("address")
    measured.add_pairs([pair(0.9, 0.2)] * 2)
    measured.add_transcript({"canary": {"principle": "kind", "status": "failed"}})
    config = {"limits": {"min_pairs": 2}, "canaries": {"min_asked": 1}}
    bias, canaries = [
        one for one in measured.require(JudgeConfig.model_validate(config)) if "flips" not in one
    ]
    assert bias == "judge judge-1: position bias is 0.350, the limit 0.25 (n=2)"
    assert canaries.startswith("the judge failed 1 of 1 canaries")
    config["limits"]["on_breach"] = "refuse"  # type: ignore[assignment]
    with pytest.raises(JudgeError, match=r"0\.350.*set judging\.limits otherwise") as refused:
        measured.require(JudgeConfig.model_validate(config))
    assert refused.value.reason == "limits"
