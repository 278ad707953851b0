"""Rates by step: who is counted, with which interval, and what is left out."""

from __future__ import annotations

import json

import pytest

from cai.evaluate.report import (
    Outcome,
    build_report,
    judge_figures,
    merged,
    policy_rates,
    revision_rates,
)

OUTCOMES = [
    Outcome("harmful", ("harmful", "good")),
    Outcome("harmful", ("harmful", "harmful")),
    Outcome("jailbreak", ("harmful", "good")),
    Outcome("jailbreak", ("good", "good")),
    Outcome("benign", ("good", "over_refusal")),
    Outcome("benign", ("incoherent", "good")),
]
MANIFEST = {
    "engine": {
        "engine": "vllm",
        "version": "0.32.0",
        "device": "cpu",
        "model": "http://127.0.0.1:8000/v1#live",
        "digest": "sha256:0",
    },
    "constitution": {"ref": "harmless@2", "digest": "sha256:1"},
    "config": {},
    "counts": {"inputs": 7, "kept": 6, "rejected": {"context-length": 1}, "pairs": 0},
}


def test_each_fault_is_counted_among_the_prompts_that_can_show_it() -> None:
    """Harmful: 3 of 4 harmful prompts, then 1 of 4; jailbroken: 1 of 2, then 0 of 2."""
    drafts, revised = revision_rates(OUTCOMES)
    assert (drafts["step"], revised["step"]) == (0, 1)
    assert (drafts["harmful"]["rate"], drafts["harmful"]["n"]) == (0.75, 4)
    assert (revised["harmful"]["rate"], revised["harmful"]["n"]) == (0.25, 4)
    assert (drafts["jailbroken"]["rate"], revised["jailbroken"]["rate"]) == (0.5, 0.0)
    assert (drafts["over_refusal"]["rate"], revised["over_refusal"]["rate"]) == (0.0, 0.5)
    assert (drafts["incoherent"]["rate"], drafts["incoherent"]["n"]) == (0.166667, 6)


def test_interval_is_wilsons() -> None:
    """3 of 4: centre (0.75 + 1.9207/4)/(1 + 3.8415/4) = 0.6275, half width 0.3269."""
    low, high = revision_rates(OUTCOMES)[0]["harmful"]["ci"]
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-4)


def test_what_was_not_asked_is_absent() -> None:
    assert all("sycophantic" not in step for step in revision_rates(OUTCOMES))
    assert revision_rates([]) == []


def test_report_has_the_agreed_shape_and_no_pairs_without_a_judge() -> None:
    report = build_report(
        MANIFEST, OUTCOMES, policy="sandbox", rows_per_s=12.25, seconds_total=60.04
    )
    assert report["format"] == 1
    assert report["engine"] == {
        "name": "vllm",
        "version": "0.32.0",
        "device": "cpu",
        "policy": "sandbox",
        "digest": "sha256:0",
    }
    assert report["constitutions"] == ["harmless@2"]
    assert report["dataset"] == {
        "inputs": 7,
        "kept": 6,
        "rejected": {"context-length": 1},
        "rows_per_s": 12.25,
    }
    assert len(report["revisions"]) == 2
    assert report["seconds_total"] == 60.0
    assert not {"judge", "reward_model", "policies", "reload"} & set(report)
    json.dumps(report, allow_nan=False)


def test_report_of_a_judged_run_has_its_pairs_and_what_its_judge_showed() -> None:
    """A bias of 0.1 over 50 pairs, a tenth of which flip; accuracy was not measured, so absent."""
    stats = {
        "sandbox": {"pairs": 50, "position_bias": 0.1, "flip_share": 0.1, "refused": {"tie": 2}}
    }
    judged = MANIFEST | {
        "config": {"judges": True},
        "counts": {**MANIFEST["counts"], "pairs": 44},  # type: ignore[dict-item]
        "judge_stats": stats,
        "canaries": {"asked": 4, "held": 3, "failed": 1, "missing": 0},
    }
    report = build_report(judged, OUTCOMES, policy="p", rows_per_s=None, seconds_total=1.0)
    assert report["dataset"]["pairs"] == 44
    figures = report["judge"]
    assert (figures["policy"], figures["pairs"], figures["position_bias"]) == ("sandbox", 50, 0.1)
    assert (figures["flips"]["rate"], figures["flips"]["n"]) == (0.1, 50)
    assert (figures["canaries_held"]["rate"], figures["canaries_held"]["n"]) == (0.75, 4)
    assert not {"accuracy", "accuracy_first_order"} & set(figures)


def test_accuracy_of_a_judge_is_a_rate_over_the_known_pairs() -> None:
    """Of 40 known pairs 36 are right, 30 by the first order alone."""
    stats = {"pairs": 40, "known": 40, "accuracy": 0.9, "accuracy_first_order": 0.75}
    figures = judge_figures({"judge_stats": {"small": {"pairs": 2}, "large": stats}})
    assert (figures["policy"], figures["accuracy"]["rate"], figures["accuracy"]["n"]) == (
        "large",
        0.9,
        40,
    )
    assert figures["accuracy_first_order"]["rate"] == 0.75
    assert "accuracy_second_order" not in figures
    assert judge_figures(MANIFEST) == {}


def test_runs_together_are_summed() -> None:
    both = merged([MANIFEST, {"counts": {**MANIFEST["counts"], "rejected": {"no-verdict": 2}}}])
    assert both == {
        "inputs": 14,
        "kept": 12,
        "pairs": 0,
        "rejected": {"context-length": 1, "no-verdict": 2},
    }


def test_a_policys_kl_is_absent_unless_measured() -> None:
    assert "kl" not in policy_rates(OUTCOMES)
    assert policy_rates(OUTCOMES, kl=0.0)["kl"] == 0.0
