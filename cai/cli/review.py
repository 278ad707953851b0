"""`cai review`: answers before people, blindly; what they decided, and how far they agree."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.output import print_json, print_text, say
from cai.cli.review_show import item_lines, stats_lines
from cai.db import open_database
from cai.errors import ConfigError
from cai.files import canonical_json, replace_text
from cai.policy.registry_rows import time_now
from cai.registry import choices
from cai.review.decisions import human_rows
from cai.review.exporting import annotated_document, games, review_line
from cai.review.figures import figures
from cai.review.importing import import_file
from cai.review.queue import LEASE_S, RANDOM_SHARE, ReviewQueue
from cai.review.records import MAX_COMMENT_CHARS, MAX_TARGET, Given, Kind, as_shown
from cai.settings import load_settings

app = typer.Typer(
    name="review",
    help="Human evaluation: a blind queue of pairs and answers, and what people decided.",
    add_completion=False,
    no_args_is_help=True,
)

FORMATS = ("jsonl", "annotated-pairs", "rows", "games")
_KINDS: dict[str, Kind] = {"pairs": "pair", "ratings": "rating"}

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Rater = Annotated[
    str | None, typer.Option("--rater", help="Who decides; left out, the user of this machine.")
]


@app.command("import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Runs, preferences, annotated pairs, verdicts, answers.")
    ],
    as_: Annotated[
        str, typer.Option("--as", help="pairs to compare, or ratings of single answers.")
    ] = "pairs",
    target: Annotated[
        int, typer.Option(min=1, max=MAX_TARGET, help="Raters wanted for each item.")
    ] = 1,
    random_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share drawn without regard to any opinion.")
    ] = RANDOM_SHARE,
    seed: Annotated[int, typer.Option(min=0, help="Decides that draw.")] = 0,
    as_json: Json = False,
) -> None:
    """Put pairs of answers, or single answers, into the queue; what is there stays as it is.

    The lines that export writes come back with what was decided.
    """
    if as_ not in _KINDS:
        raise ConfigError(f"--as: no kind '{as_}'{choices(as_, _KINDS)}", param="as")
    how: dict[str, Any] = {"target": target, "random_share": random_share, "seed": seed}
    how |= {"actor": _user(), "with_decisions": True}
    with _queue() as queue:
        told = {
            str(path): import_file(queue, path, kind=_KINDS[as_], source=str(path), **how)
            for path in paths
        }
    if as_json:
        print_json(told)
        return
    for name, one in told.items():
        left_out = ", ".join(f"{reason} {number}" for reason, number in one["skipped"].items())
        skipped = f"; left out: {left_out}" if left_out else ""
        print_text(f"{name}: {one['new']} new items, {one['known']} known{skipped}")
    say("next: cai review next")


@app.command("next")
def next_(
    rater: Rater = None,
    lease_s: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds for which the item stays yours.")
    ] = LEASE_S,
    as_json: Json = False,
) -> None:
    """Show the item that you are to look at; neither who answered nor what others think of it."""
    with _queue() as queue:
        shown = queue.next(rater or _user(), lease_s=lease_s)
    if as_json:
        print_json(None if shown is None else shown._asdict())
    elif shown is None:
        print_text("nothing is left for you to review")
    else:
        print_text("\n".join(item_lines(shown)))
        say(f"next: cai review decide {shown.id} {'a|b|tie' if shown.kind == 'pair' else '1..5'}")


@app.command()
def decide(
    id: Annotated[str, typer.Argument(help="The item's id, as next shows it.")],
    choice: Annotated[str, typer.Argument(help="a, b, tie or skip; of one answer 1 to 5.")],
    comment: Annotated[
        str | None, typer.Option(help=f"A word on it, at most {MAX_COMMENT_CHARS} characters.")
    ] = None,
    rater: Rater = None,
    as_json: Json = False,
) -> None:
    """Say which of the two answers is better, as they were shown to you, or rate the one."""
    given = _given(choice, comment)
    with _queue() as queue:
        made = queue.decide(id, rater or _user(), given)
    said = as_shown(made.choice, made.is_swapped)
    if as_json:
        print_json({**made.model_dump(exclude={"is_swapped"}, exclude_none=True), "choice": said})
    else:
        print_text(f"{made.item_id}: {made.rating if said == 'rating' else said}")
        say("next: cai review next")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "jsonl",
    as_json: Json = False,
) -> None:
    """Write what was decided: lines, annotated pairs 2.0, rows of a dataset, games of an arena."""
    if format not in FORMATS:
        raise ConfigError(f"--format: no format '{format}'{choices(format, FORMATS)}")
    with _queue() as queue:
        text, told = _exported(queue, format)
    replace_text(out, text)
    if as_json:
        print_json({"out": str(out), "format": format, **told})
        return
    print_text(f"{out}: " + ", ".join(f"{number} {name}" for name, number in told.items()))
    if format == "rows":
        say(f"next: cai data merge RUN {out} --out MERGED")


@app.command()
def stats(as_json: Json = False) -> None:
    """Say how far the queue is, and how far raters agree with each other and with the judge."""
    with _queue() as queue:
        told = {"queue": queue.counts(), **figures(queue.reviewed())}
    if as_json:
        print_json(told)
    else:
        print_text("\n".join(stats_lines(told)))


@contextmanager
def _queue() -> Iterator[ReviewQueue]:
    with open_database(load_settings()) as database:
        yield ReviewQueue(database)


def _exported(queue: ReviewQueue, format: str) -> tuple[str, dict[str, int]]:
    """The text of the file, and what is in it."""
    if format == "annotated-pairs":
        document = annotated_document(queue.reviewed(), created_at=time_now())
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        return text, {"comparisons": len(document["comparisons"])}
    if format == "jsonl":
        lines = [review_line(one) for one in queue.reviewed()]
        return _jsonl(lines), {"items": len(lines)}
    if format == "games":
        played = [game for one in queue.reviewed() for game in games(one)]
        return _jsonl(played), {"games": len(played)}
    found = list(human_rows(queue.reviewed()))
    rows = [one for one in found if isinstance(one, dict)]
    return _jsonl(rows), {"rows": len(rows), "without a row": len(found) - len(rows)}


def _jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(canonical_json(line) + "\n" for line in lines)


def _given(choice: str, comment: str | None) -> Given:
    if comment is not None and len(comment) > MAX_COMMENT_CHARS:
        raise ConfigError(
            f"--comment has {len(comment):,} characters; at most {MAX_COMMENT_CHARS:,} are kept"
        )
    if choice in ("a", "b", "tie", "skip"):
        return Given.model_validate({"choice": choice, "comment": comment})
    if choice in ("1", "2", "3", "4", "5"):
        return Given(rating=int(choice), comment=comment)
    raise ConfigError(f"'{choice[:40]}' is no decision; say a, b, tie or skip, or 1 to 5")


def _user() -> str:
    try:
        return getpass.getuser()[:128]
    except (KeyError, OSError):
        return "local"  # a container may run without a name for its user
