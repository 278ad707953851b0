"""A side: iterations of our own PPO on an open run: rollouts, rewards, update, weights pushed."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.models import quiet_environment
from benchmarks.sides import serve_commands

quiet_environment()


def main(policy: str, reward: str, texts: str, settings: str) -> None:
    warnings.simplefilter("ignore")
    from cai.train.base import load_policy
    from cai.train.config import PpoConfig
    from cai.train.ppo import iterate
    from cai.train.ppo_parts import encode_prompts, load_value, open_parts
    from cai.train.ppo_schedule import Schedule
    from cai.train.ppo_state import PpoState
    from cai.train.sources import load_prompts

    wanted = json.loads(settings)
    folder = Path(tempfile.mkdtemp())
    config = PpoConfig(
        policy=policy,
        reward=reward,
        data=(Path(texts),),
        name="speed",
        run_dir=folder / "run",
        out=folder / "out",
        rollouts=wanted["rollouts"],
        rollout_size=wanted["batch_size"],
        batch_size=wanted["batch_size"],
        micro_batch_size=wanted["batch_size"],
        max_new_tokens=wanted["response_tokens"],
        max_length=1024,
        ppo_epochs=wanted["epochs"],
        learning_rate=wanted["learning_rate"],
        value_learning_rate=wanted["learning_rate"],
        critic_warmup=0,
        missing_eos_penalty=0.0,
        num_threads=wanted["num_threads"],
        precision="fp32",
    )
    loaded = load_policy(policy, config)
    prompts = encode_prompts(load_prompts(config.data), loaded.encoder, loaded.config)
    with open_parts(loaded, load_value(loaded), prompts) as parts:
        parts.rollouts.push(loaded.model)
        state = PpoState(kl_coef=config.kl_coef)
        schedule = Schedule.of(parts.config, len(prompts.train))

        def handle(_command: dict[str, Any]) -> dict[str, Any]:
            phases: dict[str, float] = defaultdict(float)
            first, lengths = state.episodes, []
            started = time.perf_counter()
            for _ in range(wanted["iterations"]):
                figures = iterate(parts, state, schedule)
                lengths.append(figures["length"])
                for name, value in figures.items():
                    phases[name] += value if name.startswith("seconds_") else 0.0
            seconds = time.perf_counter() - started
            return {
                "episodes_per_s": (state.episodes - first) / seconds,
                "seconds": seconds,
                "length": sum(lengths) / len(lengths),
                **{name: value for name, value in phases.items() if value},
            }

        serve_commands(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
