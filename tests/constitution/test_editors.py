"""The schema that editors use is the one that the code checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cai.constitution.editors import schema_text
from cai.yamlguard import load_yaml_file

CONSTITUTIONS = Path(__file__).parents[2] / "constitutions"
FILES = sorted(CONSTITUTIONS.glob("*/*.yaml"))


def test_the_shipped_schema_is_up_to_date() -> None:
    """Else: python -m cai.constitution.editors."""
    assert (CONSTITUTIONS / "schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_files_point_to_the_schema_and_keep_to_it(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schema.json"
    jsonschema.validate(load_yaml_file(path).data, json.loads(schema_text()))
