"""Places on a plot by hand, and figures with their differences."""

from __future__ import annotations

import doctest

import pytest

from cai.evaluate import eval_report, eval_report_compare, plots
from cai.evaluate.eval_report_compare import changes, figures_of, read_figure
from cai.evaluate.plots import About, Line, Point, interval_rows, line_plot, ticks
from cai.evaluate.results import EvalResult


@pytest.mark.parametrize("module", [plots, eval_report, eval_report_compare])
def test_the_examples_hold(module) -> None:
    assert doctest.testmod(module).failed == 0


def test_points_are_placed_between_the_ends_of_the_axes() -> None:
    """x from 0 to 2 is 72 to 444 wide, y from 0 to 1 is 242 up to 16."""
    line = Line("one", [Point(0, 0), Point(1, 0.5, 0.25, 1.0), Point(2, 1)], kind="both")
    plot = line_plot("t", [line], x_label="x", y_label="y", x_range=(0, 2), y_range=(0, 1))
    (drawn,) = plot.lines
    assert drawn.path == "72.0,242.0 258.0,129.0 444.0,16.0"
    assert (drawn.dots[1].low, drawn.dots[1].high) == (185.5, 16.0)
    assert [tick.at for tick in plot.x_ticks] == [72.0, 165.0, 258.0, 351.0, 444.0]
    whole = line_plot("t", [line], x_label="x", y_label="y", x_range=(0, 2), has_whole_x=True)
    assert [tick.text for tick in whole.x_ticks] == ["0", "1", "2"]


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [1e12, 1e12], [-5.0, -5.0]])
def test_points_of_one_height_have_an_axis_too(values: list[float]) -> None:
    points = [Point(x, y) for x, y in enumerate(values)]
    plot = line_plot("t", [Line("", points)], x_label="x", y_label="y")
    assert len(plot.y_ticks) >= 2
    left, top, right, bottom = plot.frame
    for dot in plot.lines[0].dots:
        assert left <= dot.x <= right
        assert top <= dot.y <= bottom


def test_a_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="'t' has no point to draw"):
        line_plot("t", [], x_label="x", y_label="y")


def test_bars_begin_at_zero_where_the_scale_has_it() -> None:
    """Shares in per cent of the width; ratings of 900 and 1,100 have 6 % of room at the ends."""
    figure = {"rate": 0.25, "ci": [0.2, 0.4]}
    (row,) = interval_rows([("a", figure, "", 7, About())], span=(0.0, 1.0))
    assert (row.start, row.at, row.low, row.high, row.colour) == (0.0, 25.0, 20.0, 40.0, 1)
    given = [(str(v), {"value": v}, "", 0, About()) for v in (900.0, 1100.0)]
    low, high = interval_rows(given)
    assert (low.start, low.at) == (5.4, 5.4)
    assert high.at == 94.6


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.13, 0.97) == [0.2, 0.4, 0.6, 0.8]
    assert ticks(-3.0, 12.0) == [0.0, 5.0, 10.0]
    assert ticks(0.0, 1e6)[-1] == 1e6


def test_what_is_no_figure_is_none() -> None:
    for value in (None, 3, {"rate": True}, {"rate": float("nan")}, {"mean": 1, "other": 2}, []):
        assert read_figure(value) is None
    assert read_figure({"mean": 1.0, "n": 5, "sd": 2}) == {"value": 1.0, "n": 5}
    assert read_figure({"rate": 0.5}) == {"rate": 0.5}
    assert read_figure({"rate": 0.5, "ci": [0.4, "x"], "n": 3}) == {"rate": 0.5, "n": 3}


def test_figures_of_an_unknown_shape_are_found_by_their_looks() -> None:
    rate = {"rate": 0.5, "n": 2, "ci": [0.1, 0.9]}
    one = EvalResult(
        id="x", kind="ab", created_at="t", figures={"arms": {"a": {"up": rate}}, "k": 3}
    )
    assert [(m.metric, m.figure) for m in figures_of(one)] == [
        ("arms / a / up", rate),
        ("k", {"value": 3}),
    ]
    same = changes(one, one)
    assert [change["changed"] for change in same] == [False, False]
    assert changes(one, one.model_copy(update={"figures": {}})) == []
