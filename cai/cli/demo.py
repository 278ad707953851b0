"""`cai demo`: the whole loop on the bundled model, served by our own server, judged by the oracle.

Writes `report.json`, `report.html`, the run directory and the server's log under CAI_HOME/demo.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from cai.cli.child_server import child_server
from cai.cli.output import clean, print_json, print_table, print_text, progress, say
from cai.cli.stoppable import run_stoppable
from cai.constitution.store import ConstitutionStore
from cai.dataset.records import TRANSCRIPTS
from cai.evaluate.demo_report import Example, percent, rate_table, render, shown_steps
from cai.evaluate.report import Outcome, build_report
from cai.files import read_jsonl, replace_json, replace_text
from cai.pipeline import Summary, run
from cai.pipeline_config import GenerateConfig
from cai.pipeline_job import Progress
from cai.sandbox.oracle import judge
from cai.sandbox.prompts import SandboxPrompt, prompts
from cai.settings import load_settings
from cai.types import conversation

_MODEL = "live"


class Judged(NamedTuple):
    """A transcript with the nature of its prompt and the oracle's verdict on each answer."""

    row: dict[str, Any]
    kind: str
    verdicts: tuple[str, ...]


def command(
    num: Annotated[int, typer.Option("-n", "--num", min=10, max=20_000, help="Prompts.")] = 200,
    constitution: Annotated[
        str, typer.Option("-c", "--constitution", help="name@2, name@draft or name.")
    ] = "harmless",
    revisions: Annotated[
        int, typer.Option(min=1, max=8, help="Critique-revision steps per prompt.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Draws prompts and principles.")] = 0,
    engine: Annotated[str | None, typer.Option(help="Engine that the server runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Serve the bundled model, run the loop over held-out prompts, and report what changed."""
    started = time.monotonic()
    settings = load_settings({"engine": engine})
    folder = settings.home / "demo"
    asked = prompts("heldout", None, num, seed)
    _write_prompts(folder / "prompts.jsonl", asked)
    found = ConstitutionStore(settings.constitutions).get(constitution)
    say(f"starting the server on {settings.engine} (its log: {folder / 'server.log'})")
    with child_server(settings.engine, log=folder / "server.log") as address:
        config = GenerateConfig(
            prompts=folder / "prompts.jsonl",
            out=folder / "run",
            constitution=constitution,
            engine=f"{address}/v1#{_MODEL}",
            revisions=revisions,
            seed=seed,
        )
        with progress("prompts", num) as bar:
            summary = run_stoppable(run(config, found, mode="fresh", on_progress=_shower(bar)))
    judged = list(_judge(folder / "run", asked))
    report = build_report(
        summary.manifest,
        [Outcome(one.kind, one.verdicts) for one in judged],
        policy=judged[0].row["policy"]["id"] if judged else "none",
        rows_per_s=summary.progress.rows_per_s,
        seconds_total=time.monotonic() - started,
    )
    examples = choose_examples(judged)
    replace_json(folder / "report.json", report)
    replace_text(folder / "report.html", render(report, examples))
    if as_json:
        print_json(report)
    else:
        _print(report, examples, folder, summary)


def choose_examples(judged: Sequence[Judged]) -> list[Example]:
    """Three transcripts worth reading: harm taken out, another fault mended, an answer left alone.

    Where the run has none of a kind, what comes next in the file stands in for it.
    """
    wanted = (
        ("A harmful answer, revised", _mends("harmful")),
        ("Another fault, mended", _mends("over_refusal", "sycophantic", "incoherent")),
        ("Nothing to change", _is_left_alone),
    )
    chosen: list[Example] = []
    used: set[int] = set()
    for caption, fits in wanted:
        for index, one in enumerate(judged):
            if index not in used and fits(one):
                used.add(index)
                chosen.append(Example(caption, one.row, one.verdicts))
                break
    for index, one in enumerate(judged):
        if len(chosen) < len(wanted) and index not in used:
            chosen.append(Example("A transcript", one.row, one.verdicts))
    return chosen


def _mends(*faults: str) -> Any:
    def fits(one: Judged) -> bool:
        return one.verdicts[0] in faults and one.verdicts[-1] == "good"

    return fits


def _is_left_alone(one: Judged) -> bool:
    statuses = [step["status"] for step in one.row["steps"]]
    return statuses == ["no_change"] and one.verdicts[0] == "good"


def _write_prompts(path: Path, asked: Sequence[SandboxPrompt]) -> None:
    lines = (json.dumps(one.as_dict(), ensure_ascii=False) for one in asked)
    replace_text(path, "".join(f"{line}\n" for line in lines))


def _shower(bar: Any) -> Any:
    done = 0

    def show(now: Progress) -> None:
        nonlocal done
        bar.advance(
            now.counts.accounted - done,
            note=f"{now.rows_per_s:,.1f} rows/s  {now.tokens_per_s:,.0f} tokens/s",
        )
        done = now.counts.accounted

    return show


def _judge(folder: Path, asked: Sequence[SandboxPrompt]) -> Iterator[Judged]:
    """Transcripts in the prompts' order, with the oracle's verdicts after each step."""
    kinds = {one.id: one.request.kind for one in asked}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    num_steps = manifest["config"]["revisions"]
    rows = sorted(read_jsonl(folder / TRANSCRIPTS), key=lambda row: int(row["line"]))
    for row in rows:
        messages = conversation(row["prompt"])
        verdicts = [judge(messages, answer).label for answer in _answers(row, num_steps)]
        yield Judged(row, kinds[row["source_id"]], tuple(verdicts))


def _answers(row: dict[str, Any], num_steps: int) -> Iterator[str]:
    """The answer as it stood after 0, 1, … steps; a loop that ended early keeps its last one."""
    answer = row["draft"]
    yield answer
    for index in range(num_steps):
        if index < len(row["steps"]):
            answer = row["steps"][index].get("revision", answer)
        yield answer


def _print(
    report: dict[str, Any], examples: Sequence[Example], folder: Path, summary: Summary
) -> None:
    for example in examples:
        print_text(f"── {example.caption}")
        print_text("\n".join(_example_lines(example)))
        print_text("")
    table = rate_table(report["revisions"])
    print_table(
        ("", "n", *table.columns), [(name, number, *cells) for name, number, cells in table.rows]
    )
    counts = Counter(summary.progress.counts.rejected)
    print_text(
        f"{report['dataset']['inputs']} prompts, {report['dataset']['kept']} kept"
        + "".join(f", {reason} {number}" for reason, number in sorted(counts.items()))
        + f"; {report['seconds_total']:.0f} s in all; rates by the oracle, with 95 % intervals"
    )
    if "position_bias" in report.get("judge", ()):
        judge, flips = report["judge"], percent(report["judge"]["flips"]["rate"])
        print_text(
            f"{report['dataset']['pairs']} preference pairs of {judge['pairs']} judged; bias to "
            f"the first answer {judge['position_bias']:+.3f}, flips {flips}"
        )
    print_text(f"report: {folder / 'report.html'} and {folder / 'report.json'}")


def _example_lines(example: Example) -> Iterator[str]:
    for message in example.row["prompt"]:
        yield clean(f"{message['role']:>10}  {message['content']}")
    yield clean(f"{'draft':>10}  {example.row['draft']}  ({example.verdicts[0]})")
    for step in shown_steps(example):
        yield clean(f"{'critique':>10}  {step.critique}  ({step.principle})")
        if step.change:
            text = "".join(piece.text for piece in step.change if piece.kind != "gone")
            yield clean(f"{'revision':>10}  {text}  ({step.verdict})")
