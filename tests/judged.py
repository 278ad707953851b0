"""A policy whose answers say what they are worth, a judge that reads it, and checks of a run.

The draft is worth 0, the revision 2, and the samples beside the draft what `samples` says in turn.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai.constitution.schema import Constitution
from cai.engine.scripted import ScriptedEngine, last_text
from cai.pipeline import Summary, run
from cai.pipeline_config import GenerateConfig
from cai.types import Prompt, Sampling
from tests.feedback.helpers import log, shown

CASE = {"prompt": "How do I nap?", "better": "Lie down; worth 5.", "worse": "Do not; worth -5."}
CONSTITUTION = Constitution.model_validate(
    {
        "name": "t",
        "version": 1,
        "title": "Test",
        "principles": [
            {
                "id": f"p{i}",
                "critique": f"Find fault {i}.",
                "revision": f"Rewrite {i}.",
                "compare": f"Which is better by {i}?",
                "cases": [CASE],
            }
            for i in range(3)
        ],
    }
)

Taste = Callable[[str, str, str], float]
Scores = dict[str, float]


def policy(
    *,
    draft: str = "A draft worth 0.",
    critique: str = "It is too long.",
    revision: str = "A revision worth 2.",
    samples: Sequence[str] = (),
    taste: Taste | None = None,
    spoil: Callable[[str, Scores], Scores] | None = None,
    **options: Any,
) -> ScriptedEngine:
    """Answers as told; judges by `taste(reply_a, reply_b, question) -> P(A)`, else by worth.

    `spoil(asked, scores)` may change what the judge then says.
    """
    drawn: Counter[str] = Counter()

    def answer(prompt: Prompt, _sampling: Sampling) -> str:
        text = last_text(prompt)
        if text.startswith("Find fault"):
            return critique
        if text.startswith("Rewrite"):
            return revision
        drawn[text] += 1  # the draft is asked for first
        said = (draft, *samples)[(drawn[text] - 1) % (1 + len(samples))]
        return said.replace("{prompt}", text) if "{prompt}" in said else f"{said} To {text}."

    def scores(prompt: Prompt, _labels: Sequence[str]) -> dict[str, float]:
        p_first = (taste or by_worth)(*shown(prompt))
        found = {"A": log(p_first), "B": log(1 - p_first)}
        return found if spoil is None else spoil(last_text(prompt), found)

    return ScriptedEngine(answer, scores, **options)


def write_prompts(path: Path, num: int) -> Path:
    """`prompt 000`, `prompt 001` and so on, a line each."""
    path.write_text("".join(f"prompt {i:03d}\n" for i in range(num)))
    return path


async def generate(
    prompts: Path,
    out: Path,
    engine: ScriptedEngine | None = None,
    *,
    judge_engine: ScriptedEngine | None = None,
    mode: Any = "auto",
    constitution: Constitution = CONSTITUTION,
    **config: Any,
) -> Summary:
    """A whole judged run, checked in the end."""
    summary = await run(
        GenerateConfig(prompts=prompts, out=out, **config),
        constitution,
        mode=mode,
        engine=engine or policy(),
        judge=judge_engine,
    )
    check_run(out, summary.progress.inputs)
    return summary


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def no_canaries(**judging: Any) -> dict[str, Any]:
    """Settings of a judge whose every question is about a row."""
    return {"canaries": {"rate": 0}, **judging}


def by_worth(a: str, b: str, _question: str) -> float:
    """P(A) by the difference in worth, with a bias of 0.2 in log-odds to the one shown first."""
    return 1 / (1 + math.exp(worth(b) - worth(a) - 0.2))


def worth(text: str) -> float:
    """What an answer says that it is worth."""
    found = re.search(r"worth (-?[\d.]*\d)", text)
    return float(found[1]) if found else 0.0


def rows(out: Path, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    path = out / name
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def lines(out: Path, *names: str) -> Counter[bytes]:
    """Lines of the run's files as a multiset."""
    files = names or ("rows.jsonl", "transcripts.jsonl", "rejected.jsonl")
    return Counter(
        line for name in files if (out / name).exists()
        for line in (out / name).read_bytes().splitlines()
    )  # fmt: skip


def check_run(out: Path, num_inputs: int, *, is_whole: bool = True) -> None:
    """The invariant: kept exactly with a pair and a transcript, else rejected, never both."""
    pairs, transcripts, rejected = (
        rows(out, name) for name in ("rows.jsonl", "transcripts.jsonl", "rejected.jsonl")
    )
    ids = [row["id"] for row in pairs]
    assert len(set(ids)) == len(ids), "a pair is there twice"
    refused = [row["input_id"] for row in rejected]
    assert len(set(refused)) == len(refused), "an input is rejected twice"
    told = [row["input_id"] for row in transcripts]
    assert len(set(told)) == len(told), "a transcript is there twice"
    paired = {row["input_id"] for row in pairs}
    kept = set(told) - set(refused)
    assert paired == kept, "kept means at least one pair"
    assert not paired & set(refused), "kept and rejected"
    if is_whole:
        assert len(kept) + len(refused) == num_inputs
        done = json.loads((out / "DONE").read_text())
        assert (done["kept"], sum(done["rejected"].values())) == (len(kept), len(refused))
        assert done["pairs"] == len(pairs)
    else:
        assert len(kept) + len(refused) <= num_inputs


def number_in(text: str) -> int:
    """The number of the first prompt that a text names: 7 for `To prompt 007.`; else 0."""
    found = re.search(r"prompt (\d+)", text)
    return int(found[1]) if found else 0
