"""Kept results of every kind, as small as they can be, for the tests of reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cai.evaluate.results import EvalResult, JudgeRef, PolicyRef, SuiteRef, save
from cai.stats.intervals import rate_of
from tests.dataset.rows import row

HOSTILE = "<script>document.title='owned'</script>"


def rate(count: int, n: int = 100) -> dict[str, Any]:
    found = rate_of(count, n)
    assert found is not None
    return found.as_dict()


def keep_policy(
    home: Path,
    id: str,
    faults: dict[str, int],
    *,
    answer: str = "No.",
    digest: str = "sha256:a",
    split: str = "heldout",
) -> str:
    """A held-out suite with these faults of 100 by policy, and one that gates use with as many."""
    refs = [
        SuiteRef(name="harmlessness", digest=digest, split=split),
        SuiteRef(name="gate", digest="sha256:b", split="heldout", used_for=("gates",)),
    ]
    worst = {"prompt": "1", "sample": 0, "check": "judge", "turn": 1, "asked": HOSTILE}
    suites = {
        ref.name: {
            "fault": "harmful",
            "split": ref.split,
            "used_for": list(ref.used_for),
            "prompts": 100,
            "policies": {
                policy: {"answers": 100, "rate": rate(count), "tags": {"fraud": rate(count)}}
                for policy, count in faults.items()
            },
            "worst": {policy: [{**worst, "answer": HOSTILE}] for policy in faults},
        }
        for ref in refs
    }
    about = {"suite": "harmlessness", "prompt": "1", "sample": 0}
    lines = [
        {
            **about,
            "policy": policy,
            "tags": [],
            "messages": [
                {"role": "user", "content": f"How? {HOSTILE}"},
                {"role": "assistant", "content": f"{answer} {policy} {HOSTILE}"},
            ],
            "answers": [answer],
        }
        for policy in faults
    ]
    verdicts = [
        {**about, "policy": policy, "outcome": "failed" if count > 50 else "passed", "checks": []}
        for policy, count in faults.items()
    ]
    result = EvalResult(
        id=id,
        kind="policy",
        created_at="2026-01-01T00:00:00+00:00",
        policies=tuple(PolicyRef(ref=policy, model=policy) for policy in faults),
        suites=tuple(refs),
        figures={"suites": suites},
    )
    save(home, result, {"answers.jsonl": lines, "verdicts.jsonl": verdicts})
    return id


def keep_others(home: Path) -> None:
    """A judge with a reliability diagram, an arena, two benchmarks and an A/B test."""
    at = {"created_at": "2026-01-02T00:00:00+00:00"}
    bins = [{"confidence": c, "accuracy": a, "n": 10} for c, a in ((0.6, 0.5), (0.9, 0.8))]
    save(
        home,
        EvalResult(
            id="judge-1",
            kind="judge",
            **at,
            judge=JudgeRef(address="scripted", model="the-judge"),
            settings={"data": "pairs.jsonl"},
            figures={
                "accuracy": rate(70),
                "calibration": {"n": 20, "ece": 0.1, "bins": bins},
                "subsets": {"chat": {"accuracy": rate(30, 40)}},
            },
        ),
    )
    players = [
        {"policy": name, "rating": value, "ci": [value - 30, value + 30], "ranks": [1, 2]}
        for name, value in (("dpo", 1080.0), ("base", 920.0))
    ]
    save(
        home, EvalResult(id="arena-1", kind="arena", **at, figures={"games": 9, "players": players})
    )
    for id, policy, count, day in (("bench-0", "base", 60, 1), ("bench-1", "dpo", 50, 2)):
        save(
            home,
            EvalResult(
                id=id,
                kind="bench",
                created_at=f"2026-01-0{day}T00:00:00+00:00",
                policies=(PolicyRef(ref=policy, model=policy),),
                settings={"tasks": ["tiny"], "limit": 100},
                figures={"tasks": {"tiny": {"acc,none": rate(count)}}},
            ),
        )
    advice = {"action": "promote", "arm": "dpo", "why": "it is better"}
    told = {"quantity": "mean of b less mean of a", "estimate": 0.2, "ci": [0.1, 0.3], "n": 80}
    save(home, EvalResult(id="ab-1", kind="ab", **at, figures={**told, "recommendation": advice}))


def write_runs(home: Path) -> None:
    """A training run that was watched, a dataset run with labels, and the demo's report."""
    training = home / "runs" / "ppo-1"
    training.mkdir(parents=True)
    curves = [
        {
            "step": step,
            "loss": 1 / step,
            "eval_loss": 1.1 / step,
            "watch/sqrt_kl": step / 10,
            "watch/proxy_reward": step / 10 - step * step / 200,
            "watch/win_rate": 0.5 + step / 40,
            "watch/judge_n": 50,
        }
        for step in range(1, 9)
    ]
    (training / "curves.jsonl").write_text("".join(json.dumps(one) + "\n" for one in curves))
    dataset = home / "runs" / "data-1"
    dataset.mkdir()
    stats = {"the-judge": {"reliability": [{"confidence": 0.7, "accuracy": 0.6, "n": 9}]}}
    manifest = {"format": 1, "constitution": {"ref": "test@1"}, "judge_stats": stats}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    (dataset / "rows.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(3)))
    step = {
        "principle": "kind",
        "critique": HOSTILE,
        "status": "revised",
        "revision": "A nice one.",
    }
    line = {"prompt": [{"role": "user", "content": "Q"}], "draft": "A bad one.", "steps": [step]}
    (dataset / "transcripts.jsonl").write_text(json.dumps(line) + "\n")
    demo = home / "demo"
    demo.mkdir()
    steps = [
        {"step": number, "harmful": rate(60 - 20 * number), "over_refusal": rate(5 * number)}
        for number in range(3)
    ]
    (demo / "report.json").write_text(json.dumps({"format": 1, "revisions": steps}))
