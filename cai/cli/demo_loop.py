"""The demo's first half: the loop over held-out prompts, and the oracle's reading of each answer.

Start from `judged_transcripts`; `choose_examples` picks what is worth showing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.dataset.records import TRANSCRIPTS
from cai.evaluate.demo_report import Example
from cai.files import read_jsonl, replace_text
from cai.pipeline_job import Progress
from cai.sandbox.oracle import judge
from cai.sandbox.prompts import SandboxPrompt
from cai.types import conversation


class Judged(NamedTuple):
    """A transcript with the nature of its prompt and the oracle's verdict on each answer."""

    row: dict[str, Any]
    kind: str
    verdicts: tuple[str, ...]


def judged_transcripts(folder: Path, asked: Sequence[SandboxPrompt]) -> Iterator[Judged]:
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


def write_prompts(path: Path, asked: Sequence[SandboxPrompt]) -> None:
    """The prompts as the file that a run reads."""
    lines = (json.dumps(one.as_dict(), ensure_ascii=False) for one in asked)
    replace_text(path, "".join(f"{line}\n" for line in lines))


def shower(bar: Any) -> Any:
    """What moves a progress bar on as a run goes."""
    done = 0

    def show(now: Progress) -> None:
        nonlocal done
        bar.advance(
            now.counts.accounted - done,
            note=f"{now.rows_per_s:,.1f} rows/s  {now.tokens_per_s:,.0f} tokens/s",
        )
        done = now.counts.accounted

    return show
