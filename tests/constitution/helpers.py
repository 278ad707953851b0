"""Small constitution files for the tests of this folder."""

from pathlib import Path

from cai.constitution.schema import Constitution, Principle
from cai.yamlguard import load_yaml, validate

TEXT = """\
# why this constitution exists
name: kind
version: draft                # edited until it is released
title: Be kind
principles:
  - id: no-insult             # the first
    critique: Point out any insult.
    revision: Rewrite the answer without insults.
    compare: Which answer insults less?
    cases:
      - prompt: Am I stupid?
        better: No.
        worse: Yes, very.
  - id: be-brief
    compare: Which answer is shorter?
"""


def write(root: Path, *, name: str = "kind", version: str = "draft", text: str = TEXT) -> Path:
    """A constitution file at its place, with its name and version set."""
    path = root / name / f"{version}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text.replace("name: kind", f"name: {name}").replace(
        "version: draft", f"version: {version}"
    )
    path.write_text(text, encoding="utf-8")
    return path


def parse(text: str = TEXT) -> Constitution:
    """The constitution that a text describes."""
    return validate(Constitution, load_yaml(text))


def of(*principles: Principle, name: str = "kind") -> Constitution:
    """A draft with these principles."""
    return Constitution(name=name, version="draft", title="t", principles=principles)


def comparing(id: str, weight: float = 1.0) -> Principle:
    """A principle that can only compare."""
    return Principle(id=id, compare="Which is better?", weight=weight)
