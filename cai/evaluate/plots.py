"""Places of what a plot draws, in its own units: lines and dots with intervals, and bars in rows.

Pure maths over numbers and names; `eval_plots.html.j2` makes SVG of it. Start from `line_plot` and
`interval_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from cai.evaluate.eval_report_compare import number_of

WIDTH: Final = 460
HEIGHT: Final = 290
NUM_COLOURS: Final = 6

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 16, 48
_LEAST_SPAN = 1e-9


class Point(NamedTuple):
    """A point of a series, with its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """Points that belong together, in the order of x."""

    name: str
    points: Sequence[Point]
    kind: Literal["line", "dots", "both"] = "line"
    is_dashed: bool = False
    colour: int = 0


class Tick(NamedTuple):
    """A mark on an axis: where, and what it says."""

    at: float
    text: str


class Dot(NamedTuple):
    """A point as drawn; `low` and `high` are the ends of its interval."""

    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """A series as drawn."""

    name: str
    colour: int
    is_dashed: bool
    path: str
    dots: Sequence[Dot]


@dataclass(frozen=True, slots=True)
class Plot:
    """One chart as drawn, in a box of `WIDTH` by `HEIGHT`."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[DrawnLine]
    frame: tuple[float, float, float, float]
    """Left, top, right and bottom of the axes."""


class About(NamedTuple):
    """What is told beside a bar: the run that it is of, and whether it differs from a baseline."""

    run: str | None = None
    anchor: str | None = None
    mark: str | None = None
    is_same: bool = False


class Row(NamedTuple):
    """A bar with its interval, in per cent of the row's width."""

    name: str
    text: str
    start: float
    at: float
    low: float | None
    high: float | None
    colour: int
    about: About


class _Axis(NamedTuple):
    low: float
    high: float
    begin: float
    end: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)


def line_plot(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    has_whole_x: bool = False,
) -> Plot:
    """A chart around all points; a range that is given is on its axis in any case.

    `has_whole_x` says that x counts something, so that no tick is between two numbers.

    Raises ValueError where there is no point.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError(f"'{title}' has no point to draw")
    ys = [end for one in points for end in (one.y, one.low, one.high) if end is not None]
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    across = _axis([one.x for one in points], x_range, _LEFT, right)
    along = _axis(ys, y_range, bottom, _TOP)
    counted = [x for x in ticks(across.low, across.high) if not has_whole_x or x == int(x)]
    return Plot(
        title=title,
        x_label=x_label,
        y_label=y_label,
        x_ticks=[Tick(across.place(one), number(one)) for one in counted],
        y_ticks=[Tick(along.place(one), number(one)) for one in ticks(along.low, along.high)],
        lines=[_drawn(line, across, along) for line in lines],
        frame=(_LEFT, _TOP, right, bottom),
    )


def interval_rows(
    rows: Iterable[tuple[str, Mapping[str, Any], str, int, About]],
    *,
    span: tuple[float, float] | None = None,
) -> list[Row]:
    """Bars of `(name, figure, text, colour, about)` on one scale: `span`, or around them all."""
    given = list(rows)
    ends = [end for _, figure, *_ in given for end in (number_of(figure), *figure.get("ci", ()))]
    low, high = _padded(ends, None) if span is None else span
    axis = _Axis(low, high, 0.0, 100.0)

    def held(value: float) -> float:
        return min(100.0, max(0.0, axis.place(value)))

    return [
        Row(
            name=name,
            text=text,
            start=held(0.0) if low <= 0 <= high else held(number_of(figure)),
            at=held(number_of(figure)),
            low=held(figure["ci"][0]) if "ci" in figure else None,
            high=held(figure["ci"][1]) if "ci" in figure else None,
            colour=colour % NUM_COLOURS,
            about=about,
        )
        for name, figure, text, colour, about in given
    ]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Some round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    steps = [power * factor for factor in (1, 2, 5, 10)]
    step = min(steps, key=lambda one: abs((high - low) / one - about))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A number in as few characters as tell it.

    >>> number(1234.0), number(0.00012), number(-0.5)
    ('1,234', '0.00012', '−0.5')
    """
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−")


def _axis(
    values: Sequence[float], held: tuple[float, float] | None, begin: float, end: float
) -> _Axis:
    return _Axis(*_padded(values, held), begin, end)


def _padded(values: Sequence[float], held: tuple[float, float] | None) -> tuple[float, float]:
    """The span of the values with a little room, and all of `held`; never empty."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low)
    if held is not None:
        return min(held[0], low), max(held[1], high)
    if high - low <= _LEAST_SPAN * max(1.0, abs(high)):
        room = abs(high) / 2 or 1.0
    return low - room, high + room


def _drawn(line: Line, across: _Axis, along: _Axis) -> DrawnLine:
    def up(value: float | None) -> float | None:
        return None if value is None else along.place(value)

    dots = [
        Dot(across.place(one.x), along.place(one.y), up(one.low), up(one.high))
        for one in line.points
    ]
    has_path = line.kind != "dots" and len(dots) > 1
    has_dots = line.kind != "line" or len(dots) == 1
    return DrawnLine(
        name=line.name,
        colour=line.colour % NUM_COLOURS,
        is_dashed=line.is_dashed,
        path=" ".join(f"{dot.x},{dot.y}" for dot in dots) if has_path else "",
        dots=dots if has_dots else (),
    )
