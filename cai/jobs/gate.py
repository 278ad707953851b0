"""The evaluation gate in a process of its own: `gate POLICY LIMITS`, its verdict as JSON.

What is evaluated, and how, is known to `TARGET` alone, called as
`await check(policy_id, limits, settings)`, with `passed`, `figures` and `reasons` in what it gives.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
from collections.abc import Sequence
from typing import Any, Final

from cai.errors import CaiError, UnsupportedError
from cai.registry import load_object
from cai.settings import load_settings

TARGET: Final = "cai.evaluate.gates:check"

logger = logging.getLogger(__name__)


def check_there() -> None:
    """Raise UnsupportedError where this version has no gate."""
    if importlib.util.find_spec(TARGET.partition(":")[0]) is None:
        raise UnsupportedError(
            "this version has no evaluation gate, so no policy is promoted by itself; leave "
            "auto_promote out",
            param="auto_promote",
        )


def main(argv: Sequence[str]) -> int:
    """Evaluate the policy `argv[1]` under the limits `argv[2]`, JSON; 2 for what cannot be."""
    logging.basicConfig(level=logging.INFO)
    try:
        print(json.dumps(evaluate(argv[1], json.loads(argv[2]))))  # noqa: T201
    except CaiError as exc:
        logger.error("%s", " ".join(exc.message.splitlines()))
        return 2 if isinstance(exc, UnsupportedError) else 1
    return 0


def evaluate(policy: str, limits: dict[str, float]) -> dict[str, Any]:
    """The verdict: whether it passed, the figures, and the reasons where it did not."""
    verdict = asyncio.run(load_object(TARGET)(policy, limits, load_settings()))
    return {
        "passed": bool(verdict.passed),
        "figures": dict(verdict.figures),
        "reasons": [str(reason) for reason in verdict.reasons],
    }
