"""Command line of `python -m cai.sandbox.build`."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from cai.sandbox.build import build

logger = logging.getLogger("cai.sandbox.build")


def main() -> None:
    """Build, and log the losses and the measured rates."""
    parser = argparse.ArgumentParser(description=build.__doc__)
    parser.add_argument("--out", type=Path, help="folder to write; the bundled one if unset")
    parser.add_argument("--seed", type=int, help="the recipe's if unset")
    parser.add_argument("--steps", type=int, help="fewer steps, for a trial")
    parser.add_argument("--constitutions", type=Path, default=Path("constitutions"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    written = build(
        given.out, seed=given.seed, num_steps=given.steps, constitutions=given.constitutions
    )
    logger.info("%s", json.dumps(written["measured"], indent=1))


if __name__ == "__main__":
    main()
