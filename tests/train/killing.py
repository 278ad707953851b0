"""A child process that trains and kills itself with SIGKILL after so many optimizer steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cai.registry import load_object
from cai.train.config import CONFIGS, CommonConfig
from cai.train.plan import Progress


def train_until_killed(config: CommonConfig, *, at_step: int) -> None:
    """Run the config's trainer in a process of its own, which dies at a step."""
    values = config.model_dump_json()
    name = type(config).model_fields["type"].default
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.train.killing", name, str(at_step), values],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


def main(name: str, at_step: str, values: str) -> None:
    config = CONFIGS[name].model_validate(json.loads(values))

    def die(progress: Progress) -> None:
        if progress.step == int(at_step):
            os.kill(os.getpid(), signal.SIGKILL)

    load_object(f"cai.train.{name}:run")(config, progress=die)


if __name__ == "__main__":
    main(*sys.argv[1:])
