"""Line charts as SVG text: small panels in a grid, with axes, legends, intervals and marks.

Knows numbers and labels, nothing of training. The picture follows the reader's light or dark
theme, and needs no script and nothing from outside. Start from `svg`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, NamedTuple

WIDTH, HEIGHT = 460, 300
"""Size of one panel, in pixels."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 58, 46
_MAX_POINTS = 400  # of a line; more are averaged in groups
_NUM_COLOURS = 6
_CHARACTER = 6.2  # pixels of a letter of the legend, about

STYLE = """
svg { --page: #ffffff; --ink: #1d2126; --soft: #59616b; --line: #e3e1dc; --c0: #1f6fb2;
  --c1: #b8500f; --c2: #14713f; --c3: #8a3fa0; --c4: #8a6d00; --c5: #a02a4e; }
@media (prefers-color-scheme: dark) {
  svg { --page: #1c2026; --ink: #e7e9ec; --soft: #a3abb5; --line: #333a43; --c0: #5aa9e6;
    --c1: #f0a06a; --c2: #7fd39c; --c3: #cf9be0; --c4: #e0c25a; --c5: #f08aa8; }
}
.page { fill: var(--page); } .grid { stroke: var(--line); } .axis { stroke: var(--soft); }
text { fill: var(--soft); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.title { fill: var(--ink); font-size: 14px; font-weight: 600; } .key { fill: var(--ink); }
.end { text-anchor: end; } .mid { text-anchor: middle; }
.line { fill: none; stroke-width: 1.6; stroke-opacity: .75; stroke-linejoin: round; }
.dashed { stroke-width: 2.4; stroke-opacity: 1; stroke-dasharray: 6 4; }
.bar { stroke-width: 1.2; stroke-opacity: .65; }
.mark { stroke: var(--ink); stroke-dasharray: 2 3; }
""" + "".join(
    f".s{i} {{ stroke: var(--c{i}); }} .f{i} {{ fill: var(--c{i}); }}\n"
    for i in range(_NUM_COLOURS)
)


class Point(NamedTuple):
    """One place of a series; `low` and `high` are its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together, in the order of x; without a name it is not in the legend.

    `colour` counts from 0 to 5.
    """

    name: str
    points: Sequence[Point]
    kind: Literal["line", "dots"] = "line"
    is_dashed: bool = False
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at `x` with a word beside it."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. Labels carry the units; `x_from` and `y_range` are on its axes in any case."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    y_range: tuple[float, float] | None = None
    x_from: float | None = None


class Axis(NamedTuple):
    """From `low` to `high`, with `ticks` at round numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def svg(panels: Sequence[Panel], *, columns: int = 2) -> str:
    """One picture of all panels, row by row; a sentence where there are none."""
    columns = max(1, min(columns, len(panels)))
    width, height = columns * WIDTH, max(1, math.ceil(len(panels) / columns)) * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Learning curves">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
    ]
    if not panels:
        parts.append(f'<text class="mid" x="{width / 2}" y="{height / 2}">No figures yet.</text>')
    for index, panel in enumerate(panels):
        x, y = index % columns * WIDTH, index // columns * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def axis(values: Sequence[float], *, num_ticks: int = 5) -> Axis:
    """An axis around the values with some `num_ticks` round steps of 1, 2 or 5 times a power of 10.

    >>> axis([0.0, 9.0]).ticks
    (0.0, 2.0, 4.0, 6.0, 8.0)
    """
    low, high = min(values), max(values)
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        room = abs(high) / 2 or 1.0
        low, high = low - room, high + room
    step = _round_step((high - low) / num_ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, tuple(round(i * step, 12) for i in range(first, last + 1)))


def thinned(points: Sequence[Point], at_most: int = _MAX_POINTS) -> list[Point]:
    """Groups of consecutive points averaged, so that no more than `at_most` are left."""
    size = math.ceil(len(points) / at_most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        Point(
            math.fsum(p.x for p in group) / len(group), math.fsum(p.y for p in group) / len(group)
        )
        for group in groups
    ]


def _panel(panel: Panel) -> Iterator[str]:
    points = [point for series in panel.series for point in series.points]
    starts = [] if panel.x_from is None else [panel.x_from]
    across = axis([*starts, *(point.x for point in points)])
    heights = [
        value for point in points for value in (point.y, point.low, point.high) if value is not None
    ]
    along = axis(_padded([*heights, *(panel.y_range or ())], panel.y_range))
    yield f'<text class="title" x="{_LEFT}" y="22">{escape(panel.title)}</text>'
    yield from _frame(panel, across, along)
    for mark in panel.marks:
        if across.low <= mark.x <= across.high:
            yield from _mark(mark, across)
    for series in panel.series:
        yield from _series(series, across, along)
    yield from _legend(panel.series)


def _padded(values: Sequence[float], held: tuple[float, float] | None) -> list[float]:
    """Values with a twentieth of room on either side, unless the range is given."""
    low, high = min(values), max(values)
    if held is not None:
        return [low, high]
    room = (high - low) / 20
    return [low - room, high + room]


def _frame(panel: Panel, across: Axis, along: Axis) -> Iterator[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for tick in along.ticks:
        y = _y(tick, along)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}"/>'
        yield f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{number(tick)}</text>'
    for tick in across.ticks:
        x = _x(tick, across)
        yield f'<line class="axis" x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom + 4}"/>'
        yield f'<text class="mid" x="{x}" y="{bottom + 17}">{number(tick)}</text>'
    yield f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
    centre, middle = (_LEFT + right) / 2, (_TOP + bottom) / 2
    yield f'<text class="mid" x="{centre}" y="{HEIGHT - 10}">{escape(panel.x_label)}</text>'
    yield (
        f'<text class="mid" transform="translate(14 {middle}) rotate(-90)">'
        f"{escape(panel.y_label)}</text>"
    )


def _series(series: Series, across: Axis, along: Axis) -> Iterator[str]:
    colour = series.colour % _NUM_COLOURS
    if series.kind == "line" and len(series.points) > 1:
        path = " ".join(f"{_x(p.x, across)},{_y(p.y, along)}" for p in thinned(series.points))
        dashed = " dashed" if series.is_dashed else ""
        yield f'<polyline class="line s{colour}{dashed}" points="{path}"/>'
        return
    for point in series.points:
        x = _x(point.x, across)
        if point.low is not None and point.high is not None:
            ends = f'y1="{_y(point.low, along)}" y2="{_y(point.high, along)}"'
            yield f'<line class="bar s{colour}" x1="{x}" x2="{x}" {ends}/>'
        yield f'<circle class="f{colour}" cx="{x}" cy="{_y(point.y, along)}" r="3"/>'


def _mark(mark: Mark, across: Axis) -> Iterator[str]:
    x, bottom = _x(mark.x, across), HEIGHT - _BOTTOM
    yield f'<line class="mark" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>'
    is_right = across.share(mark.x) > 0.6
    side, anchor = (-5, ' class="end"') if is_right else (5, "")
    yield f'<text{anchor} x="{x + side}" y="{bottom - 7}">{escape(mark.label)}</text>'


def _legend(series: Sequence[Series]) -> Iterator[str]:
    x = float(_LEFT)
    for one in (one for one in series if one.name):
        colour = one.colour % _NUM_COLOURS
        if one.kind == "line":
            dashed = " dashed" if one.is_dashed else ""
            ends = f'x1="{x:.1f}" y1="40" x2="{x + 18:.1f}" y2="40"'
            yield f'<line class="line s{colour}{dashed}" {ends}/>'
        else:
            yield f'<circle class="f{colour}" cx="{x + 9:.1f}" cy="40" r="3"/>'
        yield f'<text class="key" x="{x + 23:.1f}" y="44">{escape(one.name)}</text>'
        x += 34 + _CHARACTER * len(one.name)


def number(value: float) -> str:
    """A tick's label: no more digits than it needs.

    >>> number(0.25), number(2000.0), number(3e6), number(-1.0), number(2e-5)
    ('0.25', '2,000', '3M', '−1', '2e−5')
    """
    if abs(value) >= 1e6:
        text = f"{value / 1e6:g}M"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif 0 < abs(value) < 1e-3:
        digits, _, power = f"{value:.6e}".partition("e")
        text = f"{float(digits):g}e{int(power)}"
    else:
        text = f"{value:.6g}"
    return text.replace("-", "−")


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= rough * (1 - 1e-9))


def _x(value: float, across: Axis) -> float:
    return round(_LEFT + across.share(value) * (WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float, along: Axis) -> float:
    return round(HEIGHT - _BOTTOM - along.share(value) * (HEIGHT - _TOP - _BOTTOM), 1)
