"""tokens/s of `cai data generate` against vLLM's own offline `LLM.chat` in three staged calls.

Both generate exactly the same number of tokens on the same prompts with the same batch limit.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.models import first_turns, make_model
from benchmarks.sides import Side, alternate, sides

BATCH = "128"
MAX_TOKENS = "64"


def main(*, rounds: int = 5, num_prompts: int = 256) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model")
        prompts = Path(folder) / "prompts.jsonl"
        lines = (json.dumps({"prompt": turn}) for turn in first_turns(num_prompts))
        prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        arguments = (str(model), str(prompts), MAX_TOKENS, BATCH)
        with sides(
            Side("benchmarks.cai_side", *arguments, "none"),
            Side("benchmarks.offline_side", *arguments, "none"),
        ) as (ours, offline):
            equal = ours.ask(run=True)["tokens"], offline.ask(run=True)["tokens"]
            print(f"  tokens generated: {equal[0]} and {equal[1]}")
            ratio = alternate(ours, offline, key="tokens_per_s", rounds=rounds, run=True)
    print(ratio.line("data generate / offline LLM.chat", "tokens/s", target=0.95))


if __name__ == "__main__":
    main()
