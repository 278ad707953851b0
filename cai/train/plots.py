"""Draws a run's learning curves: `curves.svg`, and `curves.html` around it.

Against steps: losses, rewards, KL and whatever else a trainer logged. Against √KL to the reference:
what the watch for reward hacking saw, with the fitted R(d) and its peak. Start from `plot`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import DataError
from cai.files import read_json, replace_text
from cai.stats.overoptimisation import Curve
from cai.train.charts import Mark, Panel, Point, Series, svg
from cai.train.curves import NAME, Row, read_curves
from cai.train.decline import Pooled, Seen, judge_curve, judged, proxy_curve
from cai.train.watch import PREFIX

DISTANCE = "√KL to the reference (√nats per answer)"
_FITTED_POINTS = 80


class Topic(NamedTuple):
    """A panel against steps: its title, the unit of y, and the curves in it with their labels.

    `eval_` before a curve's name makes the same figure on held-out rows.
    """

    title: str
    unit: str
    names: dict[str, str]


TOPICS = (
    Topic("Loss", "loss (nats)", {"loss": "loss", "policy_loss": "policy", "value_loss": "value"}),
    Topic("Reward", "reward", {"reward": "reward", "mean_reward": "mean reward"}),
    Topic(
        "Rewards of answers",
        "β·log π/π_ref (nats)",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
    ),
    Topic("Margin", "chosen − rejected", {"rewards/margins": "margin", "margin": "margin"}),
    Topic(
        "Accuracy",
        "share",
        {"accuracy": "pairs", "rewards/accuracies": "pairs", "mean_token_accuracy": "tokens"},
    ),
    Topic(
        "Log-probs of answers",
        "log-prob (nats per answer)",
        {"logps/chosen": "chosen", "logps/rejected": "rejected"},
    ),
    Topic("KL to the reference", "KL (nats per answer)", {"kl": "KL", "kl_answer": "KL"}),
    Topic("Entropy", "entropy (nats per token)", {"entropy": "entropy"}),
    Topic("Length", "tokens per answer", {"length": "length"}),
    Topic("Calibration error", "share", {"calibration_error": "error"}),
    Topic(
        "Norm of the gradient",
        "norm before clipping",
        {"grad_norm": "gradient", "policy_grad_norm": "policy", "value_grad_norm": "value"},
    ),
    Topic("Sampler against trainer", "nats per token", {"gap_mean_abs": "mean difference"}),
    Topic("Learning rate", "learning rate", {"learning_rate": "rate"}),
)


def plot(run_dir: Path) -> Path:
    """Write `curves.svg` and `curves.html` into a run's folder; returns the SVG's path.

    May be called while the run goes on. Raises DataError where there are no curves.
    """
    if not (run_dir / NAME).is_file():
        raise DataError(f"{run_dir}: there is no {NAME}; is this the folder of a training run?")
    rows = read_curves(run_dir)
    watched = list(watch_panels(rows))
    stepped = list(step_panels(rows))
    target = run_dir / "curves.svg"
    replace_text(target, svg([*watched, *stepped]))
    replace_text(run_dir / "curves.html", _page(run_dir, watched, stepped))
    return target


def step_panels(rows: Sequence[Row]) -> Iterator[Panel]:
    """A panel for each topic that has figures, against the step; dashed on held-out rows."""
    for topic in TOPICS:
        trained: list[Series] = []
        held_out: list[Series] = []
        for name, label in topic.names.items():
            colour = max(len(trained), len(held_out))
            if points := _along(rows, name):
                trained.append(Series(label, points, colour=colour))
            if points := _along(rows, f"eval_{name}"):
                told = "" if held_out else "held out"
                held_out.append(Series(told, points, is_dashed=True, colour=colour))
        if trained or held_out:
            yield Panel(topic.title, "step", topic.unit, [*trained, *held_out])


def watch_panels(rows: Sequence[Row]) -> Iterator[Panel]:
    """What the watch logged, against √KL; nothing where it logged nothing."""
    seen = [_seen(row) for row in rows if f"{PREFIX}proxy_reward" in row]
    if not seen:
        return
    yield _proxy_panel(seen)
    if judged(seen):
        yield _judge_panel(seen)
    shares = {"repeated": "repeated", "opening": "same opening", "refusals": "refusals"}
    for title, unit, names in (
        ("Length", "tokens per answer", {"length": "length"}),
        ("Texts", "share", {**shares, "duplicates": "duplicates"}),
        ("Entropy", "nats per token", {"entropy": "entropy"}),
    ):
        series = [
            Series(label, points, colour=index)
            for index, (name, label) in enumerate(names.items())
            if (points := _against_distance(rows, name))
        ]
        if series:
            held = (0.0, 1.0) if unit == "share" else None
            yield Panel(title, DISTANCE, unit, series, y_range=held, x_from=0.0)


def _proxy_panel(seen: Sequence[Seen]) -> Panel:
    curve = proxy_curve(seen)
    series = [
        Series("measured", [Point(one.distance, one.proxy_reward) for one in seen], kind="dots")
    ]
    if curve is not None:
        series.append(_fitted(curve, seen, lambda reward: reward, colour=0))
    return Panel("What is optimised", DISTANCE, "proxy reward", series, x_from=0.0)


def _judge_panel(seen: Sequence[Seen]) -> Panel:
    curve, known = judge_curve(seen), judged(seen)
    points = [Point(one.distance, one.win_rate or 0.0, *Pooled.of([one]).interval) for one in known]
    series = [Series("measured, 95 % interval", points, kind="dots", colour=1)]
    marks = []
    if curve is not None:
        series.append(_fitted(curve, known, _win_rate, colour=1))
        if curve.peak is not None:
            marks.append(Mark(curve.peak, f"peak {curve.peak:.2f}"))
    return Panel(
        "What the judge says",
        DISTANCE,
        "win rate over the reference",
        series,
        marks,
        y_range=(0.0, 1.0),
        x_from=0.0,
    )


def _fitted(
    curve: Curve, seen: Sequence[Seen], shown: Callable[[float], float], *, colour: int
) -> Series:
    farthest = max(one.distance for one in seen)
    places = [farthest * index / _FITTED_POINTS for index in range(_FITTED_POINTS + 1)]
    start = f"{curve.start:.3g} + " if abs(curve.start) > 1e-3 else ""
    name = f"R(d) = {start}d({curve.alpha:.3g} − {curve.beta:.3g} log d)".replace("− -", "+ ")
    points = [Point(d, shown(curve.at(d))) for d in places]
    return Series(name, points, is_dashed=True, colour=colour)


def _win_rate(gain: float) -> float:
    """σ(R): the win rate of an answer whose reward is `gain` above the reference's."""
    return 0.5 * (1 + math.tanh(gain / 2))


def _seen(row: Row) -> Seen:
    win_rate = row.get(f"{PREFIX}win_rate")
    return Seen(
        step=int(row["step"]),
        kl=row.get(f"{PREFIX}kl", 0.0),
        proxy_reward=row[f"{PREFIX}proxy_reward"],
        win_rate=win_rate,
        judge_n=int(row.get(f"{PREFIX}judge_n", 0)) if win_rate is not None else 0,
    )


def _along(rows: Sequence[Row], name: str) -> list[Point]:
    return [Point(row["step"], row[name]) for row in rows if name in row]


def _against_distance(rows: Sequence[Row], name: str) -> list[Point]:
    x, y = f"{PREFIX}sqrt_kl", f"{PREFIX}{name}"
    return sorted(Point(row[x], row[y]) for row in rows if x in row and y in row)


def _page(run_dir: Path, watched: Sequence[Panel], stepped: Sequence[Panel]) -> str:
    """A page that needs nothing from outside: the panels, and what the watch concluded."""
    name = escape(run_dir.resolve().name)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Learning curves of {name}</title>\n<style>{_PAGE_STYLE}</style>\n</head>\n<body>",
        f"<main>\n<h1>Learning curves of {name}</h1>",
    ]
    parts += [f"<p>{escape(told)}</p>" for told in _told(run_dir)]
    for title, panels in (("Against distance", watched), ("Against steps", stepped)):
        if panels:
            parts += [f'<h2>{title}</h2>\n<div class="panels">']
            parts += [svg([panel], columns=1) for panel in panels] + ["</div>"]
    return "\n".join([*parts, "</main>\n</body>\n</html>"]) + "\n"


def _told(run_dir: Path) -> Iterator[str]:
    """Sentences from `watch.json`, where a trainer left one."""
    if not (run_dir / "watch.json").is_file():
        return
    report: dict[str, Any] = read_json(run_dir / "watch.json")
    if report.get("best_step") is not None:
        yield f"The best evaluation was that of step {report['best_step']}."
    if report.get("stopped_because"):
        yield f"Stopped: {report['stopped_because']}."


_PAGE_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --ink: #1d2126; --line: #dcdad5; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --ink: #e7e9ec; --line: #333a43; } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .75rem; }
.panels { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.panels svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: .5rem; }
"""
