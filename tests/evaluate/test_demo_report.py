"""The page of the demo: safe with any text, complete, and dependent on nothing outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from cai.evaluate.demo_report import (
    Example,
    Pairing,
    by_step,
    charts,
    percent,
    policy_table,
    rate_table,
    render,
    shown_steps,
)
from cai.evaluate.report import Outcome, build_report, merged, policy_rates
from tests.evaluate.test_report import MANIFEST, OUTCOMES

HOSTILE = "<script>alert('x')</script>&\"{{ 7*7 }}</del><img src=x onerror=alert(1)>"


def row(text: str = "A draft.", revision: str = "A better draft.") -> dict[str, Any]:
    return {
        "line": 3,
        "prompt": [{"role": "user", "content": text}],
        "draft": text,
        "steps": [
            {"principle": "p1", "critique": text, "status": "revised", "revision": revision},
            {"principle": "p2", "critique": "hm", "status": "unusable", "problem": "cut_off"},
            {"principle": "p3", "critique": "No change needed.", "status": "no_change"},
        ],
    }


def page(text: str = "A draft.", revision: str = "A better draft.") -> str:
    report = build_report(MANIFEST, OUTCOMES, policy=text, rows_per_s=None, seconds_total=1.0)
    verdicts = ("harmful", "good", "good", "good")
    return render(report, [Example(text, row(text, revision), verdicts)])


class Tags(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    VOID = frozenset({"meta", "line", "rect", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parse(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_hostile_text_stays_text() -> None:
    tags = parse(page(HOSTILE, HOSTILE + " more"))
    assert "script" not in tags.seen
    assert "img" not in tags.seen
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "&lt;script&gt;" in page(HOSTILE)
    assert "{{ 7*7 }}" in page(HOSTILE)


def test_page_needs_nothing_from_outside() -> None:
    html = page()
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?://", html)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_page_shows_changes_verdicts_and_why_a_step_did_nothing() -> None:
    html = page()
    assert "A<ins> better</ins> draft." in html
    assert '<span class="verdict good">good</span>' in html
    assert "the revision could not stand (cut off)" in html
    assert "nothing to change: the loop ended here" in html
    assert "harmless@2 · sha256:1" in html


def test_each_change_is_shown_against_the_answer_before_it() -> None:
    example = Example("x", row(), ("harmful", "good", "good", "good"))
    first, second, third = shown_steps(example)
    assert [piece.text for piece in first.change if piece.kind == "new"] == [" better"]
    assert list(second.change) == list(third.change) == []


def test_bars_stand_at_their_rates() -> None:
    """A rate of 0.75 on a scale of 96 units from 116 upwards: 72 high, top at 44."""
    report = build_report(MANIFEST, OUTCOMES, policy="p", rows_per_s=None, seconds_total=1)
    (harmful, *_) = charts(by_step(report["revisions"]))
    assert harmful.title == "Harmful"
    assert (harmful.bars[0].height, harmful.bars[0].y, harmful.bars[0].label) == (72, 44, "75 %")
    assert harmful.bars[0].high < harmful.bars[0].y < harmful.bars[0].low


def test_page_without_anything_measured_still_renders() -> None:
    report = build_report(MANIFEST, [], policy="p", rows_per_s=1.0, seconds_total=1.0)
    parse(render(report, []))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.004, "0.4 %"), (0.0994, "9.9 %"), (0.1, "10 %"), (1, "100 %")],
)
def test_small_shares_have_a_decimal(share: float, text: str) -> None:
    assert percent(share) == text


def test_table_has_a_row_for_each_fault_with_its_number() -> None:
    report = build_report(MANIFEST, OUTCOMES, policy="p", rows_per_s=None, seconds_total=1)
    table = rate_table(report["revisions"])
    assert table.columns == ["draft", "revision 1"]
    assert table.rows[0] == ("Harmful", 4, ["75 % [30, 95]", "25 % [4.6, 70]"])


def trained() -> dict[str, Any]:
    base = policy_rates(OUTCOMES, kl=0.0)
    dpo = policy_rates([Outcome("harmful", ("good",))], kl=2.345)
    return {"base": base, "dpo": dpo}


def test_policies_stand_side_by_side_with_their_distance_from_the_base() -> None:
    """Only faults that both were asked about have a row: the second one saw no benign prompt."""
    table = policy_table(list(trained().items()))
    assert table.columns == ["base", "dpo"]
    assert [row[0] for row in table.rows] == ["Harmful", "Incoherent", "KL to the base, per answer"]
    assert table.rows[-1][2] == ["0.00 nats", "2.35 nats"]


def test_page_of_a_training_shows_each_policys_answer_as_text() -> None:
    report = build_report(MANIFEST, OUTCOMES, policy="p", rows_per_s=None, seconds_total=1)
    pairing = Pairing([{"role": "user", "content": HOSTILE}], [("dpo", HOSTILE, "over_refusal")])
    report |= {"policies": trained(), "dataset": merged([MANIFEST])}
    html = render(report, [], [pairing])
    assert "script" not in parse(html).seen
    assert "What training changed" in html
    assert "over-refusal" in html
    assert "What training changed" not in page()
