"""Rows/s of draft + critique + revision + judged pair in both orders, against two yardsticks.

First vLLM's own offline `LLM.chat` in staged calls, then distilabel 1.5.3 against vLLM's OpenAI
server. Equal prompts, equal tokens, equal batch limit; the sides take turns.

distilabel needs an environment of its own:
    python -m venv var/distilabel
    var/distilabel/bin/pip install -r benchmarks/distilabel/requirements.txt
With the argument `distilabel` (`python -m benchmarks.label distilabel`) that yardstick alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.models import first_turns, make_model
from benchmarks.sides import Side, alternate, sides

BATCH = "64"
MAX_TOKENS = "64"
DISTILABEL = Path(os.environ.get("DISTILABEL_PYTHON", "var/distilabel/bin/python"))


def main(*, rounds: int = 5, num_prompts: int = 128) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        turns = first_turns(num_prompts)
        prompts.write_text("".join(json.dumps({"prompt": turn}) + "\n" for turn in turns))
        rows = write_rows(Path(folder) / "rows.jsonl", turns)
        if "distilabel" not in sys.argv[1:]:
            model = str(make_model(Path(folder) / "model"))
            arguments = (model, str(prompts), MAX_TOKENS, BATCH, "judge")
            compare(arguments, "offline", "offline LLM.chat in stages", arguments, rounds, 0.95)
        if not DISTILABEL.exists():
            print(f"distilabel skipped: {DISTILABEL} is missing; see the head of this file")
            return
        # Its cost is that of the client: where the engine is slow, both only wait for it.
        model = str(make_model(Path(folder) / "small", is_small=True))
        arguments = (model, str(prompts), MAX_TOKENS, BATCH, "judge")
        other = (model, str(rows), MAX_TOKENS, BATCH, str(DISTILABEL))
        compare(arguments, "distilabel", "distilabel 1.5.3", other, rounds, 1.3)


def compare(
    arguments: tuple[str, ...],
    side: str,
    name: str,
    others: tuple[str, ...],
    rounds: int,
    target: float,
) -> None:
    """Alternate our job with another way to the same rows, after an uncounted run of each."""
    ours_side, other_side = Side("benchmarks.cai_side", *arguments), f"benchmarks.{side}_side"
    with sides(ours_side) as (ours,), sides(Side(other_side, *others)) as (theirs,):
        print(f"  ours: {ours.ask(run=True)}, {side}: {theirs.ask(run=True)}", flush=True)
        ratio = alternate(ours, theirs, key="rows_per_s", rounds=rounds, run=True)
        print(ratio.line(f"labelled rows / {name}", "rows/s", target=target), flush=True)


def write_rows(path: Path, turns: list[str]) -> Path:
    """The same prompts and the same requests, as distilabel's steps take them."""
    from cai.constitution.schema import draw
    from cai.constitution.store import ConstitutionStore
    from cai.critique.prompts import CRITIQUE, REVISION
    from cai.feedback.prompts import ask_comparison
    from cai.types import Message

    constitution = ConstitutionStore(Path("constitutions")).get("harmless@2")
    with path.open("w", encoding="utf-8") as file:
        for turn in turns:
            drawn = draw(constitution, step="critique", seed=0, row=turn, index=0)
            question = ask_comparison(
                (Message("user", turn),), "{first}", "{second}", drawn.compare or ""
            )
            row = {
                "prompt": turn,
                "critique_request": CRITIQUE.replace("{principle}", drawn.critique or ""),
                "revision_request": REVISION.replace("{principle}", drawn.revision or ""),
                "compare": question[0].content,
            }
            file.write(json.dumps(row) + "\n")
    return path


if __name__ == "__main__":
    main()
