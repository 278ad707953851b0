"""Pydantic's complaints, at their line and with the way out."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai.errors import ConfigError, ConstitutionError
from cai.yamlguard import config_error, examine, load_yaml, problem, validate


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 1
    label: str = "x"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self):
        for index, one in enumerate(self.inner):
            if one.label == self.name:
                raise problem(f"'{one.label}' is taken; rename it", "inner", index, "label")
        return self


def test_lists_fill_tuples_and_numbers_stay_numbers():
    record = validate(Outer, load_yaml("name: n\ninner: [{size: 3}]\n"))
    assert record == Outer(name="n", inner=(Inner(size=3),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: n\nnmae: m\n", "f.yaml:2:1: unknown key 'nmae'; did you mean 'name'?"),
        ("name: n\nzzz: m\n", "f.yaml:2:1: unknown key 'zzz'; the keys are by_name, inner, name"),
        (
            "name: n\ninner:\n  - sise: 1\n",
            "f.yaml:3:5: unknown key 'sise' in inner[0]; did you mean 'size'?",
        ),
        (
            "name: n\nby_name:\n  a: {sise: 1}\n",
            "f.yaml:3:7: unknown key 'sise' in by_name.a; did you mean 'size'?",
        ),
        ("inner: []\n", "f.yaml:1:1: 'name' is missing; add it"),
        ("name: n\ninner: {a: 1}\n", "f.yaml:2:8: inner is a mapping and must be a list;"),
        ("name: 1.10\n", "f.yaml:1:7: name is the number 1.1 and must be text; put it in quotes"),
        ("name: n\ninner: [{size: '3'}]\n", "inner[0].size is the text '3' and must be a whole"),
        ("name: n\ninner: [{size: 1.5}]\n", "f.yaml:2:16: inner[0].size is the number 1.5 and"),
        ("name: n\ninner:\n", "f.yaml:2:1: inner has no value; write it or delete it"),
        ("name: n\ninner: [{label: n}]\n", "f.yaml:2:17: 'n' is taken; rename it"),
        ("- a\n", "f.yaml:1:1: the file is a list and must be a mapping"),
        ("", "f.yaml:1:1: the file is empty; it needs 'name'"),
    ],
)
def test_a_complaint_has_its_place_and_the_way_out(text, message):
    with pytest.raises(ConstitutionError) as caught:
        validate(Outer, load_yaml(text, path="f.yaml"))
    assert message in str(caught.value)


def test_the_first_complaint_by_line_is_told_and_the_others_counted():
    """Line 1: a number for a name. Line 2: an unknown key. Line 3: text for a size."""
    text = "name: 1\nzzz: 2\ninner: [{size: x}]\n"
    with pytest.raises(ConfigError, match=r"^f:1:7: name is .* \(and 2 more\)$"):
        validate(Outer, load_yaml(text, path="f", error=config_error))
    problems = examine(Outer, load_yaml(text))[1]
    assert [one.line for one in problems] == [1, 2, 3]


def test_a_misspelt_key_is_told_before_the_one_that_it_leaves_missing():
    problems = examine(Outer, load_yaml("nme: n\n"))[1]
    assert [one.message for one in problems] == [
        "unknown key 'nme'; did you mean 'name'?",
        "'name' is missing; add it",
    ]


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ConstitutionError) as caught:
        validate(Outer, load_yaml("name: n\ninner: " + "x" * 10_000 + "\n"))
    assert len(str(caught.value)) < 300
