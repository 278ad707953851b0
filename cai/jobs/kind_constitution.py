"""The kinds `lint`, `constitution-test` and `impact`: `cai constitution` in the background.

A constitution with findings or failed cases is a result, not a failed job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai.errors import DataError
from cai.jobs.place import Command, Kind, Workplace, key_env, printed_fields
from cai.jobs.spec import CasesParams, ImpactParams, LintParams, Record


def _target(params: Record, id: str) -> str:
    return f"constitutions/{id}"


def _command(words: Sequence[str], engine: str | None, place: Workplace) -> Command:
    """One that asks a judge."""
    address = place.engine(engine, "params.engine")
    argv = ("constitution", *words, "--engine", address, "--json")
    return Command(argv, key_env() if engine is None else {})


def _check_lint(params: LintParams, place: Workplace, id: str) -> None:
    place.constitution(params.constitution, "params.constitution")


def _lint_command(params: LintParams, place: Workplace, id: str) -> Command:
    argv = ("constitution", "lint", params.constitution, "--json", "--exit-zero")
    return Command(argv, {})


def _lint_result(params: LintParams, place: Workplace, id: str, printed: Any) -> dict[str, Any]:
    if not isinstance(printed, list):
        raise DataError("the command ended well and printed no findings")
    return {"constitution": params.constitution, "findings": printed}


def _check_cases(params: CasesParams, place: Workplace, id: str) -> None:
    place.constitution(params.constitution, "params.constitution")
    place.check_engine(params.engine, "params.engine")


def _cases_command(params: CasesParams, place: Workplace, id: str) -> Command:
    tags = [part for tag in params.tags for part in ("--tag", tag)]
    strict = ["--strict"] if params.strict else []
    words = ("test", params.constitution, *tags, *strict, "--exit-zero")
    return _command(words, params.engine, place)


def _check_impact(params: ImpactParams, place: Workplace, id: str) -> None:
    place.constitution(params.old, "params.old")
    place.constitution(params.new, "params.new")
    place.files.get(params.prompts)
    place.check_engine(params.engine, "params.engine")


def _impact_command(params: ImpactParams, place: Workplace, id: str) -> Command:
    numbers = {"limit": params.limit, "revise": params.revise, "seed": params.seed}
    given = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    prompts = str(place.files.verify(params.prompts))
    words = ("impact", params.old, params.new, "--prompts", prompts, *given)
    return _command(words, params.engine, place)


def _printed(params: Record, place: Workplace, id: str, printed: Any) -> dict[str, Any]:
    """The command's own report, without where on this machine it was kept."""
    names = printed if isinstance(printed, dict) else ()
    return printed_fields(printed, *(name for name in names if name not in ("path", "html")))


LINT = Kind(LintParams, _target, _check_lint, _lint_command, _lint_result)
CASES = Kind(CasesParams, _target, _check_cases, _cases_command, _printed)
IMPACT = Kind(ImpactParams, _target, _check_impact, _impact_command, _printed)
