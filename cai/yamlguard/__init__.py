"""The one YAML loader: plain data with the line and column of every key and value, or a refusal.

It takes a guarded subset of YAML (one document; no anchors, aliases, tags, directives, merge keys
or repeated keys; bounded size and depth) with the scalars of YAML 1.2: `no` and `12:30` are text.
Start from `load_yaml_file(path)`, then `validate(Model, loaded)`.
"""

from cai.yamlguard.dump import dump_yaml, reads_as_text
from cai.yamlguard.events import KeyPath, Position
from cai.yamlguard.loader import (
    MAX_BYTES,
    ErrorFactory,
    Loaded,
    config_error,
    load_yaml,
    load_yaml_file,
)
from cai.yamlguard.records import Problem, examine, find_problems, problem, validate
from cai.yamlguard.words import describe

__all__ = [
    "MAX_BYTES",
    "ErrorFactory",
    "KeyPath",
    "Loaded",
    "Position",
    "Problem",
    "config_error",
    "describe",
    "dump_yaml",
    "examine",
    "find_problems",
    "load_yaml",
    "load_yaml_file",
    "problem",
    "reads_as_text",
    "validate",
]
