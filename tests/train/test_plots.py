"""Curves as SVG and HTML: what is drawn, where it stands, and that nothing comes from outside."""

import json
import math
import re
import xml.etree.ElementTree as ET

import pytest

from cai.errors import DataError
from cai.stats.overoptimisation import reward_at
from cai.train.charts import Mark, Panel, Point, Series, axis, number, svg, thinned
from cai.train.curves import Curves
from cai.train.plots import plot
from cai.train.watch import Observation, Watch, WatchConfig, WinRate

SVG = "{http://www.w3.org/2000/svg}"
PANEL = Panel("T", "x", "y", [Series("s", [Point(0, 0), Point(10, 4)])], y_range=(0, 4))


def texts(picture):
    return [one.text for one in ET.fromstring(picture).iter(f"{SVG}text")]


def lines(picture, css="line"):
    found = ET.fromstring(picture).iter(f"{SVG}polyline")
    return [one for one in found if css in one.get("class").split()]


class TestCharts:
    def test_points_stand_where_their_numbers_say(self):
        """The frame is 62 to 442 across and 254 up to 58: (0, 0) and (10, 4) are its corners."""
        (line,) = lines(svg([PANEL]))
        assert line.get("points") == "62.0,254.0 442.0,58.0"

    def test_an_interval_is_a_bar_through_its_dot(self):
        """From 1 to 3 of 0 to 4: 254 − 49 and 254 − 147."""
        dots = [Point(0, 2, 1, 3), Point(10, 2)]
        picture = ET.fromstring(
            svg([Panel("T", "x", "y", [Series("s", dots, "dots")], (), (0, 4))])
        )
        (bar,) = [one for one in picture.iter(f"{SVG}line") if "bar" in one.get("class")]
        assert (bar.get("x1"), bar.get("y1"), bar.get("y2")) == ("62.0", "205.0", "107.0")
        assert len([one for one in picture.iter(f"{SVG}circle") if one.get("cy") == "156.0"]) == 2

    @pytest.mark.parametrize(
        ("values", "ticks"),
        [
            ([0, 10], (0, 2, 4, 6, 8, 10)),
            ([0.12, 0.31], (0.15, 0.2, 0.25, 0.3)),
            ([-1, 1], (-1, -0.5, 0, 0.5, 1)),
            ([0, 3000], (0, 1000, 2000, 3000)),
            ([0, 1e-5], (0, 2e-6, 4e-6, 6e-6, 8e-6, 1e-5)),
        ],
    )
    def test_ticks_are_round_numbers(self, values, ticks):
        assert axis(values).ticks == pytest.approx(ticks)

    @pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e9])
    def test_a_value_that_never_changes_is_in_the_middle(self, value):
        found = axis([value, value])
        assert found.share(value) == 0.5
        assert found.ticks

    def test_labels_have_a_minus_and_no_needless_digits(self):
        assert [number(one) for one in (-0.5, 1500.0, 2.5e6, 0.1)] == [
            "−0.5",
            "1,500",
            "2.5M",
            "0.1",
        ]

    def test_a_long_line_is_averaged_in_groups(self):
        found = thinned([Point(x, x % 2) for x in range(1000)], 500)
        assert len(found) == 500
        assert found[0] == Point(0.5, 0.5)

    def test_panels_stand_in_a_grid(self):
        picture = svg([PANEL] * 3, columns=2)
        assert 'viewBox="0 0 920 600"' in picture
        assert re.findall(r"translate\((\d+ \d+)\)", picture) == ["0 0", "460 0", "0 300"]

    def test_a_mark_off_the_axis_is_not_drawn(self):
        marked = Panel("T", "x", "y", PANEL.series, [Mark(5, "here"), Mark(99, "there")])
        assert "here" in texts(svg([marked]))
        assert "there" not in texts(svg([marked]))

    def test_names_are_text_and_never_markup(self):
        hostile = "</text><script>alert(1)</script>"
        picture = svg([Panel(hostile, hostile, hostile, [Series(hostile, PANEL.series[0].points)])])
        assert texts(picture).count(hostile) == 4
        assert "<script" not in picture

    def test_no_panel_says_so(self):
        assert texts(svg([])) == ["No figures yet."]


class TestPlot:
    def test_a_supervised_run_has_its_loss_against_steps(self, tmp_path):
        add(tmp_path, {1: {"loss": 3.0}, 2: {"loss": 2.0, "eval_loss": 2.5}, 4: {"eval_loss": 2.2}})
        picture = plot(tmp_path).read_text()
        assert {"Loss", "step", "loss (nats)", "held out"} <= set(texts(picture))
        assert (len(lines(picture)), len(lines(picture, "dashed"))) == (2, 1)
        assert "What is optimised" not in picture

    def test_figures_without_a_topic_are_left_out(self, tmp_path):
        add(tmp_path, {1: {"seconds_push": 3.0, "epoch": 1.0}})
        assert texts(plot(tmp_path).read_text()) == ["No figures yet."]

    def test_chosen_and_rejected_keep_their_colours_on_held_out_rows(self, tmp_path):
        sides = {"rewards/chosen": 1.0, "rewards/rejected": 0.0}
        held_out = {f"eval_{name}": value for name, value in sides.items()}
        add(tmp_path, {1: {**sides, **held_out}, 2: {**sides, **held_out}})
        picture = plot(tmp_path).read_text()
        assert [one.get("class") for one in lines(picture)] == [
            "line s0", "line s1", "line s0 dashed", "line s1 dashed",
        ]  # fmt: skip
        assert texts(picture).count("held out") == 1

    def test_a_watched_run_has_its_fit_and_its_peak_against_distance(self, tmp_path):
        """Win rates σ(d(1 − 0.5 log d)): the peak is at e = 2.72."""
        watch_a_run(tmp_path)
        found = texts(plot(tmp_path).read_text())
        assert {"What is optimised", "What the judge says", "Texts", "Entropy"} <= set(found)
        assert "√KL to the reference (√nats per answer)" in found
        assert "R(d) = d(1 − 0.5 log d)" in found
        assert "peak 2.72" in found

    def test_the_page_says_why_the_run_stopped(self, tmp_path):
        report = {**watch_a_run(tmp_path).report(), "best_step": 5}
        report["stopped_because"] = "KL <too far>"
        (tmp_path / "watch.json").write_text(json.dumps(report))
        plot(tmp_path)
        page = (tmp_path / "curves.html").read_text()
        assert "Stopped: KL &lt;too far&gt;." in page
        assert "The best evaluation was that of step 5." in page

    def test_nothing_comes_from_outside_and_both_themes_are_there(self, tmp_path):
        watch_a_run(tmp_path)
        picture = plot(tmp_path).read_text()
        page = (tmp_path / "curves.html").read_text()
        for text in (picture, page):
            assert "prefers-color-scheme: dark" in text
            without_names = text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|<script|@import|url\(|<link|<img", without_names)

    def test_a_folder_that_is_no_run_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="is this the folder of a training run"):
            plot(tmp_path)

    def test_a_run_at_its_very_beginning_can_be_drawn(self, tmp_path):
        add(tmp_path, {1: {"loss": 3.0}})
        assert "Loss" in texts(plot(tmp_path).read_text())


def add(folder, rows):
    curves = Curves(folder)
    for step, values in rows.items():
        curves.add(step, values)
    curves.close()


def watch_a_run(folder):
    curves = Curves(folder)
    watch = Watch(WatchConfig(window=20), curves)
    for step in range(10):
        d = 0.5 * step
        win = 1 / (1 + math.exp(-reward_at(d, 1.0, 0.5)))
        one = Observation(step, d * d, 2 * d, WinRate(win, 10**6), [9, 11], ["A b c.", "D."], 1.5)
        watch.observe(one)
    curves.close()
    return watch
