"""Episodes/s of PPO against TRL 1.12.0's PPOTrainer, the last release that had one.

Equal models for all four networks, prompts, response length (64 tokens, no end token), episodes per
step, epochs and threads; the sides take turns. Ours samples with vLLM and hands its weights over
each step, TRL samples with transformers. Measured twice: on prompts as they come, where TRL pads,
and on prompts of one length.

TRL's PPO needs an environment of its own:
    python -m venv var/trl_ppo
    var/trl_ppo/bin/pip install -r benchmarks/trl_ppo/requirements.txt
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.ppo_models import PpoFiles, make_files
from benchmarks.sides import Side, alternate, sides

TRL = Path(os.environ.get("TRL_PPO_PYTHON", "var/trl_ppo/bin/python"))
SETTINGS = {
    "num_threads": 2,
    "batch_size": 32,
    "iterations": 3,
    "response_tokens": 64,
    "epochs": 4,
    "learning_rate": 1e-6,
    "rollouts": "vllm",
}


def main(*, rounds: int = 5) -> None:
    if not TRL.exists():
        print(f"TRL skipped: {TRL} is missing; see the head of this file")
        return
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder))
        compare("PPO episodes / TRL, prompts as they come", files, rounds, target=1.5)
        alike = of_one_length(files, Path(folder) / "alike")
        compare("PPO episodes / TRL, prompts of one length", alike, rounds, target=1.0)


def compare(what: str, files: PpoFiles, rounds: int, *, target: float) -> None:
    """Alternate both sides on these files and print the ratio, and where our time goes."""
    settings = json.dumps(SETTINGS)
    models = str(files.policy), str(files.reward)
    with sides(
        Side("benchmarks.ppo_side", *models, str(files.texts), settings),
        Side("benchmarks.trl_ppo_side", *models, str(files.ids), settings, str(TRL)),
    ) as (ours, theirs):
        ratio = alternate(ours, theirs, key="episodes_per_s", rounds=rounds, run=True)
        phases = ours.ask(run=True)
    print(ratio.line(what, "episodes/s", target=target))
    print("  ours, seconds:", {name: round(value, 2) for name, value in phases.items()})


def of_one_length(files: PpoFiles, folder: Path, *, num_tokens: int = 30) -> PpoFiles:
    """The same with prompts of nearly one length, 64 at least: padding gives neither an edge."""
    folder.mkdir()
    found = PpoFiles(files.policy, files.reward, folder / "texts.jsonl", folder / "ids.jsonl")
    lines = list(
        zip(files.texts.read_text().splitlines(), files.ids.read_text().splitlines(), strict=True)
    )
    lines.sort(key=lambda pair: abs(len(json.loads(pair[1])) - num_tokens))
    for path, column in ((found.texts, 0), (found.ids, 1)):
        path.write_text("".join(pair[column] + "\n" for pair in lines[:80]))
    return found


if __name__ == "__main__":
    main(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 5)
