"""The door to EleutherAI's lm-evaluation-harness: run as a program of its own, its results read.

It asks a server's `/v1/completions` for text and for log-probs of token ids, as it asks any server
of that kind; nothing of it is imported here. Start from `find_program`, then `run`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import CaiError, ConfigError, MissingDependencyError
from cai.files import read_json

PACKAGE = "lm_eval"
_STDERR = 2  # the descriptor: what stands for sys.stderr may have none


class Asked(NamedTuple):
    """What the harness is to measure, and of whom."""

    tasks: tuple[str, ...]
    url: str
    """The server, http://host:port."""
    model: str
    """The name by which the server knows the policy."""
    tokenizer: str
    """Folder or hub id of the policy's tokenizer: the harness sends token ids."""
    max_length: int = 2048
    """Tokens that the policy's context holds."""
    limit: int | None = None
    num_fewshot: int | None = None
    include_path: Path | None = None
    """Folder of tasks in the harness's own format, beside those that it ships."""
    concurrency: int = 8
    seed: int = 1234


def find_program(given: str | None = None) -> list[str]:
    """How the harness is started: a program by path or name, else the package beside this one.

    Raises ConfigError for a program that is not there, MissingDependencyError for no package.
    """
    if given is not None:
        if (program := shutil.which(os.path.expanduser(given))) is None:
            raise ConfigError(
                f"'{given}' is no program that can be run; give the path of lm_eval, as in "
                "other-venv/bin/lm_eval",
                param="lm_eval",
            )
        return [program]
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingDependencyError("cai eval bench", PACKAGE, "bench")
    return [sys.executable, "-m", PACKAGE]


def arguments(asked: Asked, out: Path) -> list[str]:
    """The harness's command line after its program."""
    model = {
        "model": asked.model,
        "base_url": f"{asked.url.rstrip('/')}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": asked.tokenizer,
        "tokenized_requests": True,
        "max_length": asked.max_length,
        "num_concurrent": asked.concurrency,
        "max_retries": 3,
    }
    words = ["run", "--model", "local-completions", "--model_args", json.dumps(model)]
    words += ["--tasks", *asked.tasks, "--output_path", str(out), "--seed", str(asked.seed)]
    for flag, value in (
        ("--limit", asked.limit),
        ("--num_fewshot", asked.num_fewshot),
        ("--include_path", asked.include_path),
    ):
        if value is not None:
            words += [flag, str(value)]
    return words


def run(program: Sequence[str], asked: Asked, *, api_key: str | None = None) -> dict[str, Any]:
    """The harness's results, as it wrote them; what it says goes to stderr meanwhile.

    Raises CaiError when it fails. When this process is stopped, so is the harness.
    """
    env = {**os.environ, **({"OPENAI_API_KEY": api_key} if api_key else {})}
    with tempfile.TemporaryDirectory(prefix="cai-bench-") as folder:
        out = Path(folder)
        command = [*program, *arguments(asked, out)]
        try:
            done = subprocess.run(command, stdout=_STDERR, env=env, check=False)
        except OSError as exc:
            raise ConfigError(f"{program[0]} cannot be run: {exc.strerror or exc}") from exc
        if done.returncode:
            raise CaiError(
                f"lm_eval ended with code {done.returncode} on {', '.join(asked.tasks)}; it says "
                "why above ('lm_eval ls tasks' lists the tasks that it knows)"
            )
        return _read(out)


def _read(folder: Path) -> dict[str, Any]:
    """The one file of results, wherever below the folder this version of the harness puts it."""
    found = sorted(folder.rglob("results*.json"))
    if not found:
        raise CaiError("lm_eval ended well and wrote no results; its version may be another")
    results = read_json(found[-1])
    if not isinstance(results, dict) or not isinstance(results.get("results"), dict):
        raise CaiError("lm_eval's file has no 'results'; its version may be another")
    return results
