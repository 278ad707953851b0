"""The report as one HTML file: needs nothing from outside, runs no script, escapes every text.

Draws what `eval_report_data.report_data` tells, in the same sections. Start from `render_report`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai.evaluate.demo_report import percent
from cai.evaluate.diff import word_diff
from cai.evaluate.eval_report_compare import number_of
from cai.evaluate.pages import render_page
from cai.evaluate.plots import (
    HEIGHT,
    WIDTH,
    About,
    Line,
    Plot,
    Point,
    Row,
    interval_rows,
    line_plot,
    number,
)
from cai.stats.overoptimisation import reward_at

Json = Mapping[str, Any]

_DISTANCE = "√KL to the reference (√nats per answer)"
_FITTED_POINTS = 60
_MIN_CONFIDENCE = 0.5


def render_report(report: Json, *, out: Path | None = None) -> str:
    """The whole page. Links to runs are relative to the folder of `out`."""
    page = _Page(report)
    return render_page(
        "eval_report.html.j2",
        report=report,
        page=page,
        anchors=page.anchors,
        paths={run["path"]: _relative(run["path"], out) for run in report["runs"]},
        revisions=[_revisions(one) for one in report.get("revisions", ())],
        curves=[(one["run"], list(_curves(one))) for one in report.get("curves", ())],
        distances=[
            (one["run"], list(_distances(one))) for one in report.get("over_optimisation", ())
        ],
        reliability=[_reliability(one) for one in report.get("reliability", ())],
        figure_text=figure_text,
        signed=signed,
        percent=percent,
        word_diff=word_diff,
        size=(WIDTH, HEIGHT),
    )


def figure_text(figure: Json) -> str:
    """A figure with its interval and its number of trials.

    >>> figure_text({"rate": 0.25, "n": 100, "ci": [0.175, 0.343]})
    '25 % [18, 34], n = 100'
    >>> figure_text({"value": 1012.4, "ci": [980.0, 1044.0]})
    '1,012 [980, 1,044]'
    """
    tell = percent if "rate" in figure else number
    text = tell(number_of(figure))
    if "ci" in figure:
        low, high = (tell(end).removesuffix(" %") for end in figure["ci"])
        text += f" [{low}, {high}]"
    return text + (f", n = {figure['n']:,}" if "n" in figure else "")


def signed(change: Json) -> str:
    """A difference with its interval; of rates in percentage points.

    >>> signed({"difference": -0.125, "ci": [-0.2, -0.05], "now": {"rate": 0.1}})
    '−12.5 points [−20.0, −5.0]'
    """
    is_rate = "rate" in change.get("now", {})
    scale, form = (100, "{:+.1f}") if is_rate else (1, "{:+.4g}")
    text = form.format(scale * change["difference"]) + (" points" if is_rate else "")
    if "ci" in change:
        text += " [{}, {}]".format(*(form.format(scale * end).lstrip("+") for end in change["ci"]))
    return text.replace("-", "−")


class _Page:
    """What the template asks for: anchors of runs, colours of policies, bars of a section."""

    def __init__(self, report: Json) -> None:
        self.baseline = report["baseline"]
        ids = dict.fromkeys(run["id"] for run in report["runs"])
        self.anchors = {id: f"run-{place}" for place, id in enumerate(ids)}
        self._colours: dict[str, int] = {}
        self._changed = {
            (one["run"], one["series"], one["metric"]): bool(one["changed"])
            for one in report.get("changes", ())
        }

    def suite(self, suite: Json) -> list[Row]:
        """A bar for each run and policy that has a rate, and for the oracle where it looked."""
        return interval_rows(self._suite_rows(suite), span=(0.0, 1.0))

    def gaps(self, row: Json) -> str:
        """What was not measured of a policy, and its answers that are empty or cut off."""
        counts = {"empty": row.get("empty"), "cut off": row.get("cut")}
        missing = row.get("not_measured", {}).items()
        told = [f"{n:,} not measured ({why.replace('-', ' ')})" for why, n in missing]
        return ", ".join([*told, *(f"{n:,} {name}" for name, n in counts.items() if n)])

    def arena(self, arena: Json) -> list[Row]:
        """A bar for each player."""
        return interval_rows(
            (
                one["policy"],
                one["rating"],
                figure_text(one["rating"]),
                self._colour(one["policy"]),
                self._about(arena["run"], one["policy"], "arena rating")._replace(anchor=None),
            )
            for one in arena["players"]
        )

    def judge(self, judge: Json) -> list[Row]:
        """A bar for each rate."""
        return interval_rows(
            (
                (
                    name.replace("_", " "),
                    figure,
                    figure_text(figure),
                    self._colour(judge["judge"]),
                    self._about(judge["run"], judge["judge"], name)._replace(anchor=None),
                )
                for name, figure in judge["figures"].items()
            ),
            span=(0.0, 1.0),
        )

    def principles(self, told: Json) -> list[Row]:
        """A bar for each principle: its share of the decisive labels."""
        return interval_rows(
            (
                (
                    one["id"],
                    {"rate": one["share_decisive"]},
                    f"{percent(one['share_decisive'])}, {one['votes']:,} votes"
                    + (", never matters" if one["never_matters"] else ""),
                    0,
                    About(),
                )
                for one in told["principles"]
            ),
            span=(0.0, 1.0),
        )

    def is_same(self, run: str, series: str, metric: str) -> bool:
        """Whether a figure was compared with the baseline's and does not differ."""
        return self._changed.get((run, series, metric)) is False

    def _suite_rows(self, suite: Json) -> Iterator[tuple[str, Json, str, int, About]]:
        for row in suite["rows"]:
            if "rate" not in row:
                continue
            policy, about = row["policy"], self._about(row["run"], row["policy"], suite["name"])
            yield policy, row["rate"], figure_text(row["rate"]), self._colour(policy), about
            if "oracle" in row:
                text, beside = figure_text(row["oracle"]), About(is_same=about.is_same)
                yield f"{policy}, by the oracle", row["oracle"], text, self._colour(policy), beside

    def _about(self, run: str, series: str, metric: str) -> About:
        changed = self._changed.get((run, series, metric))
        mark = "baseline" if run == self.baseline else "changed" if changed else None
        return About(run, self.anchors.get(run), mark, is_same=changed is False)

    def _colour(self, policy: str) -> int:
        return self._colours.setdefault(policy, len(self._colours))


def _revisions(told: Json) -> tuple[str, Plot]:
    lines = []
    for colour, name in ((0, "harmlessness"), (1, "helpfulness")):
        points = [
            _point(step["step"], step[name]) for step in told["steps"] if step.get(name) is not None
        ]
        if points:
            lines.append(Line(name, points, kind="both", colour=colour))
    plot = line_plot(
        "Harmlessness and helpfulness",
        lines,
        x_label="revisions",
        y_label="share of answers",
        x_range=(0, max(1, len(told["steps"]) - 1)),
        y_range=(0.0, 1.0),
        has_whole_x=True,
    )
    return told["run"], plot


def _curves(told: Json) -> Iterator[Plot]:
    for panel in told["panels"]:
        colours: dict[str, int] = {}
        lines = [
            Line(
                f"{one['name']}{', held out' if one['is_held_out'] else ''}",
                [Point(x, y) for x, y in one["points"]],
                is_dashed=one["is_held_out"],
                colour=colours.setdefault(one["name"], len(colours)),
            )
            for one in panel["series"]
        ]
        yield line_plot(
            panel["title"], lines, x_label="step", y_label=panel["title"], has_whole_x=True
        )


def _distances(told: Json) -> Iterator[Plot]:
    """The proxy reward, and the judge's win rate where it was asked, against distance."""
    points = sorted(told["points"], key=lambda one: float(one["distance"]))
    farthest = max(one["distance"] for one in points)
    lines = [Line("measured", [Point(one["distance"], one["proxy"]) for one in points], "dots")]
    if "fit" in told:
        lines.append(Line("R(d) fitted", _fitted(told["fit"], farthest), is_dashed=True))
    span = (0.0, farthest or 1.0)
    yield line_plot(
        "What is optimised", lines, x_label=_DISTANCE, y_label="proxy reward", x_range=span
    )
    judged = [_point(one["distance"], one["win_rate"]) for one in points if "win_rate" in one]
    if judged:
        yield line_plot(
            "What the judge says",
            [Line("judge, 95 % interval", judged, "both", colour=1)],
            x_label=_DISTANCE,
            y_label="win rate over the reference",
            x_range=span,
            y_range=(0.0, 1.0),
        )


def _fitted(fit: Json, farthest: float) -> list[Point]:
    places = [farthest * step / _FITTED_POINTS for step in range(_FITTED_POINTS + 1)]
    return [Point(d, fit["start"] + reward_at(d, fit["alpha"], fit["beta"])) for d in places]


def _reliability(told: Json) -> tuple[Json, Plot]:
    points = [Point(one["confidence"], one["accuracy"]) for one in told["bins"]]
    ends = [Point(end, end) for end in (_MIN_CONFIDENCE, 1.0)]
    plot = line_plot(
        f"Reliability of {told['judge']}",
        [Line(told["judge"], points, "both"), Line("calibrated", ends, is_dashed=True, colour=2)],
        x_label="how sure the judge was",
        y_label="how often it was right",
        x_range=(_MIN_CONFIDENCE, 1.0),
        y_range=(_MIN_CONFIDENCE, 1.0),
    )
    return told, plot


def _point(x: float, figure: Json) -> Point:
    low, high = figure.get("ci", (None, None))
    return Point(x, number_of(figure), low, high)


def _relative(path: str, out: Path | None) -> str:
    """A link that cannot be read as another scheme."""
    start = Path.cwd() if out is None else out.resolve().parent
    return "./" + os.path.relpath(Path(path).resolve(), start)
