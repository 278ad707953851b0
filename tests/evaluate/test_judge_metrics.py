"""Published figures of judges' benchmarks, on files small enough to count by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cai.errors import DataError
from cai.evaluate.judge_data import read_judgments
from cai.evaluate.judge_metrics import (
    Judged,
    Scored,
    best_of,
    judgebench,
    rewardbench_sections,
    ties_score,
    turned,
)
from cai.evaluate.judge_published import judgebench_figures

PAIRS = (
    ("A>B", "A>B", "B>A", "mmlu-pro-law"),  # both the label: +2
    ("A>B", "A>B", "A>B", "mmlu-pro-law"),  # first position twice: +1 - 1
    ("B>A", "A>B", "B>A", "livebench-math"),  # both the opposite: -2
    ("B>A", "B>A", None, "livebench-math"),  # +1 and nothing
    ("A>B", None, None, "livebench-reasoning"),  # nothing
    ("A>B", "A=B", "B>A", "livecodebench"),  # nothing and +1
    ("A>B", "A=B", "A=B", "livecodebench"),  # nothing
    ("B>A", "A=B", "B>A", "livecodebench"),  # nothing and -1
)
"""Label, decision, decision on the swapped answers, source."""


def as_line(number: int, label: str, first: str | None, second: str | None, source: str) -> dict:
    judgments = [None if one is None else {"decision": one} for one in (first, second)]
    return {"pair_id": number, "source": source, "label": label, "judgments": judgments}


def written(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def outputs(tmp_path: Path) -> Path:
    lines = [as_line(number, *pair) for number, pair in enumerate(PAIRS)]
    return written(tmp_path / "outputs.jsonl", *lines)


def test_judgebench_counts_what_its_script_counts() -> None:
    """Sums above 0: pairs 1, 4, 6; below: 3, 8; 0: 2, 5, 7. Score: 3 of 8.

    Both the label: 1; one: 2, 4, 6; none: 3, 5, 7, 8. The two differ, turned back: 2, 4, 6, 8. The
    first alone is the label in 1, 2, 4.
    """
    found = judgebench([Judged(label, one, two) for label, one, two, _ in PAIRS])  # type: ignore[arg-type]
    assert found is not None
    assert found.score == 37.5
    assert found.single_score == 37.5
    assert (found.correct, found.incorrect, found.tie) == (3, 2, 3)
    assert (found.all_correct, found.some_correct, found.all_incorrect) == (1, 3, 4)
    assert (found.inconsistent, found.nulls) == (4, 2)


def test_judgebench_is_told_overall_and_by_category(tmp_path: Path) -> None:
    figures = judgebench_figures(read_judgments(outputs(tmp_path)))
    assert figures["overall"]["score"] == 37.5
    assert {name: one["score"] for name, one in figures.items()} == {
        "overall": 37.5,
        "knowledge": 50.0,
        "reasoning": 0.0,
        "math": 50.0,
        "coding": round(100 / 3, 6),
    }


def test_one_order_alone_says_nothing_of_two() -> None:
    """Two of two are the label; that the second order is missing makes neither inconsistent."""
    asked_once = [("mmlu-pro-law", Judged("A>B", "A>B", None))] * 2
    figures = judgebench_figures(asked_once)
    assert figures["overall"] == {
        **{"score": 100.0, "single_score": 100.0, "n": 2, "correct": 2},
        **{"incorrect": 0, "tie": 0, "correct_first_order": 2},
    }
    mixed = [*asked_once, ("livecodebench", Judged("A>B", "A>B", "B>A"))]
    assert judgebench_figures(mixed)["knowledge"]["nulls"] == 2


def test_no_pair_has_no_figures() -> None:
    assert judgebench([]) is None


def test_a_decision_turned_twice_is_itself() -> None:
    assert [turned(one) for one in ("A>B", "B>A", "A=B", None)] == ["B>A", "A>B", "A=B", None]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"label": "A", "judgments": [None]}, "1: no pair of JudgeBench's"),
        ({"label": "A>B"}, "1: 'judgments' should be a list"),
        ({"label": "A>B", "judgments": []}, "1: 'judgments' should be a list"),
        ({"label": "A>B", "judgments": ["A>B"]}, "1: a judgment should be null"),
        ([], "1: no pair"),
    ],
)
def test_what_is_no_output_of_judgebench_is_named_by_line(tmp_path: Path, record, told) -> None:
    with pytest.raises(DataError, match=told):
        read_judgments(written(tmp_path / "x.jsonl", record))


def test_an_empty_file_has_no_pair(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pair in the file"):
        read_judgments(written(tmp_path / "x.jsonl"))


def test_rewardbench_weighs_subsets_by_their_published_size() -> None:
    """Chat: (0.9 · 100 + 0.8 · 95) / 195; math-prm weighs 984, hep-go 164."""
    found = rewardbench_sections(
        {"alpacaeval-easy": 0.9, "alpacaeval-hard": 0.8, "math-prm": 1.0, "hep-go": 0.0}
    )
    assert found["Chat"] == pytest.approx(166 / 195)
    assert found["Reasoning"] == pytest.approx(984 / 1148)
    assert "score" not in found  # two sections are missing
    assert "Safety" not in found


def test_rewardbench_is_the_mean_of_its_four_sections() -> None:
    found = rewardbench_sections(
        {"mt-bench-med": 1.0, "mt-bench-hard": 0.5, "donotanswer": 0.5, "hep-cpp": 0.0}
    )
    assert found["score"] == pytest.approx(0.5)


def test_best_of_shares_the_first_place() -> None:
    assert best_of(3.0, [1.0, 2.0, 0.0]) == 1.0
    assert best_of(3.0, [3.0, 3.0, 0.0]) == pytest.approx(1 / 3)
    assert best_of(3.0, [4.0, 0.0, 0.0]) == 0.0


def test_ties_are_scored_as_published() -> None:
    """Prompt 1: right 5 and 4 over wrong 1, margin 3, spread 1; twin: margin 2. Prompt 2: right 3
    and 1 over wrong 2, margin -1, spread 2; twin: margin 0.5.

    Tied accuracy 1/2, twins' 1; preferred 1/2 (3 > 1, not -1 > 2), hard 1/2 (2 > 1). Margins:
    tanh(2 / 1 - 1) and tanh(-1 / 2 - 1).
    """
    found = ties_score(
        [
            Scored("tied:1", [5.0, 4.0], [1.0]),
            Scored("tied:2", [3.0, 1.0], [2.0, 0.0]),
            Scored("ref:1", [4.0], [2.0]),
            Scored("ref:2", [1.0], [0.5]),
        ]
    )
    assert found is not None
    margin = (math.tanh(1.0) + math.tanh(-1.5)) / 2
    assert found == pytest.approx((1.0, 0.5, 0.5, 0.5, margin))
    assert found.score == pytest.approx(0.3 * 1.5 + 0.2 * 1.0 + 0.01 * margin)


def test_ties_without_spread_count_as_the_limit_does() -> None:
    found = ties_score([Scored("tied:1", [2.0, 2.0], [1.0]), Scored("ref:1", [3.0], [1.0])])
    assert found is not None
    assert found.margin == 1.0
    even = ties_score([Scored("tied:1", [1.0, 1.0], [1.0]), Scored("ref:1", [3.0], [1.0])])
    assert even is not None
    assert even.margin == 0.0


def test_ties_need_their_twins() -> None:
    assert ties_score([Scored("tied:1", [2.0, 2.0], [1.0])]) is None
