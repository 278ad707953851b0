"""Light modules stay light: importing them loads none of the heavy packages."""

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "vllm", "trl", "transformers", "peft", "datasets", "ray", "dbos", "sqlalchemy"),
    *("fastapi", "starlette", "uvicorn", "openai", "numpy"),
)
LIGHT = (
    "cai",
    "cai.cli.main",
    "cai.cli.constitution",
    "cai.constitution.lint",
    "cai.constitution.release",
    "cai.constitution.store",
    "cai.critique.loop",
    "cai.dataset.records",
    "cai.engine.base",
    "cai.engine.scripted",
    "cai.errors",
    "cai.feedback.labels",
    "cai.files",
    "cai.jobs.child",
    "cai.jobs.files",
    "cai.jobs.spec",
    "cai.loop.rounds",
    "cai.policy.manifest",
    "cai.policy.records",
    "cai.policy.reload",
    "cai.policy.resolve",
    "cai.registry",
    "cai.settings",
    "cai.types",
    "cai.yamlguard",
)


def loaded_by(code: str) -> set[str]:
    """Heavy packages in `sys.modules` of a fresh interpreter that ran `code`."""
    script = f"{code}\nimport sys\nprint(*(set({HEAVY!r}) & set(sys.modules)))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module):
    assert loaded_by(f"import {module}") == set()


def test_the_help_of_the_command_loads_nothing_heavy():
    assert loaded_by("from cai.cli.main import main; main(['--help'])") == set()


def test_the_check_itself_sees_a_heavy_package():
    assert loaded_by("import numpy") == {"numpy"}
