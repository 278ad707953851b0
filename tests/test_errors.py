"""The tree of errors is the one that its docstring draws, and messages carry the place."""

import re
from pathlib import Path

import pytest

from cai import errors
from cai.errors import CaiError, ConstitutionError, MissingDependencyError, OverloadedError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type)]
TREE = [one for one in CLASSES if issubclass(one, CaiError)]


def test_the_docstring_draws_every_class_at_its_depth():
    """Four columns of drawing per level below CaiError."""
    drawn = {
        name: len(lead) // 4 - 1
        for lead, name in re.findall(r"^([ │├└─]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    }
    depths = {one.__name__: len(one.__mro__) - len(CaiError.__mro__) for one in TREE}
    assert drawn == depths


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_a_cai_error_with_its_message(kind):
    arguments = ("a", "b", "c") if kind is MissingDependencyError else ("what and the way out",)
    error = kind(*arguments)
    assert str(error) == error.message
    assert error.message
    assert error.param is None


def test_the_parameter_that_was_wrong_is_kept():
    assert CaiError("no", param="seed").param == "seed"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "bad"),
        ({"path": "a.yaml"}, "a.yaml: bad"),
        ({"path": Path("a.yaml"), "line": 2}, "a.yaml:2: bad"),
        ({"path": "a.yaml", "line": 2, "column": 5}, "a.yaml:2:5: bad"),
        ({"line": 2, "column": 5}, "2:5: bad"),
    ],
)
def test_a_constitution_error_begins_with_its_place(place, text):
    error = ConstitutionError("bad", **place)
    assert error.message == text
    assert error.reason == "bad"
    assert error.path == (Path(place["path"]) if "path" in place else None)


def test_an_overloaded_engine_says_when_to_come_back():
    assert OverloadedError("full").retry_after_s == 1.0
    assert OverloadedError("full", retry_after_s=2.5).retry_after_s == 2.5


def test_a_missing_package_is_told_with_its_install_line():
    error = MissingDependencyError("cai serve", "fastapi", "server")
    assert (
        error.message == "cai serve needs the package 'fastapi': pip install 'cai-service[server]'"
    )
