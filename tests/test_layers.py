"""ARCHITECTURE.md's two tables, enforced: who may import whom, and one door per heavy package."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# A unit imports itself and units of lines above its own; units of one line do not know each other.
LAYERS = (
    ("errors", "types"),
    ("files", "registry", "stats"),
    ("yamlguard",),
    ("settings", "db", "tables", "migrations"),
    ("constitution", "engine"),
    ("critique", "feedback"),
    ("dataset", "policy"),
    ("review", "pipeline", "train", "evaluate", "sandbox"),
    ("jobs",),
    ("loop",),
    ("server", "cli"),
)
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units}
ACROSS = {("cai.cli.serve", "server")}

# Heavy package -> the modules (with those below them) that may import it.
DOORS = {
    "vllm": (
        "cai.engine.embedded",
        "cai.engine.vllm_requests",
        "cai.engine.vllm_start",
        "cai.engine.worker",
    ),
    "torch": ("cai.train", "cai.engine.worker", "cai.sandbox.build"),
    "transformers": ("cai.train", "cai.engine", "cai.sandbox.build", "cai.sandbox.tokenizer"),
    "trl": ("cai.train",),
    "peft": ("cai.train",),
    "datasets": ("cai.train", "cai.dataset"),
    "sqlalchemy": (
        *("cai.db", "cai.db_schema", "cai.tables", "cai.migrations"),
        *("cai.policy.registry", "cai.policy.registry_rows", "cai.policy.lineage"),
        *("cai.policy.traffic", "cai.policy.feedback"),
        *("cai.jobs.queue", "cai.jobs.store", "cai.jobs.workers"),
        *("cai.review.queue", "cai.review.queue_rows"),
    ),
    "alembic": ("cai.db_schema", "cai.migrations"),
    "dbos": ("cai.jobs",),
    "ray": ("cai.jobs.runner_ray",),
    "httpx2": ("cai.engine.remote", "cai.engine.remote_calls", "cai.cli.server_client"),
    "fastapi": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server", "cai.cli.serve"),
    "prometheus_client": ("server",),
    "yaml": ("cai.yamlguard",),
    "ruamel": ("cai.constitution.editing",),
    "watchfiles": ("server.constitution_watch",),
    "pydantic_settings": ("cai.settings",),
    "typer": ("cai.cli",),
    "lm_eval": ("cai.evaluate.lm_eval",),
}


class Import(NamedTuple):
    importer: str
    imported: str
    place: str
    is_for_types: bool


def test_units_import_only_what_stands_above_them():
    wrong = [
        f"{one.place}: {unit(one.importer)} may not import {unit(one.imported)} ({one.imported})"
        for one in imports()
        if one.imported.partition(".")[0] in ("cai", "server") and not may_import(one)
    ]
    assert not wrong, "see the layers in ARCHITECTURE.md:\n" + "\n".join(wrong)


def test_a_heavy_package_is_imported_only_at_its_door():
    wrong = [
        f"{one.place}: import {package} only in {', '.join(DOORS[package])}"
        for one in imports()
        if (package := one.imported.partition(".")[0]) in DOORS
        and not one.is_for_types
        and not any(is_within(one.importer, door) for door in DOORS[package])
    ]
    assert not wrong, "see the doors in ARCHITECTURE.md:\n" + "\n".join(wrong)


def test_every_unit_has_a_layer():
    units = {unit(module_name(path)) for path in sources()} - {""}
    assert units <= set(LEVELS), "give these units a layer in ARCHITECTURE.md and here"


def may_import(one: Import) -> bool:
    """Whether the first table allows it; `cai` itself holds only the version."""
    importer, imported = unit(one.importer), unit(one.imported)
    if importer == imported or not imported:
        return True
    if (one.importer, imported) in ACROSS:
        return True
    return LEVELS.get(imported, 99) < LEVELS.get(importer, -1)


def imports() -> Iterator[Import]:
    """Every import statement of the product, wherever it stands in its file."""
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for_types = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            for name in imported_names(node):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield Import(module_name(path), name, place, id(node) in for_types)


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.module, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def sources() -> list[Path]:
    return sorted(path for folder in ("cai", "server") for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def unit(module: str) -> str:
    """The unit of a module: cai.engine.base -> engine, cai.files -> files, server.app -> server.

    A unit that is one file may have helpers named after it: cai.pipeline_config -> pipeline.
    """
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0] if package == "cai" else package
    return name if name in LEVELS else name.partition("_")[0].removeprefix("__")


def is_within(module: str, door: str) -> bool:
    return module == door or module.startswith(door + ".")
