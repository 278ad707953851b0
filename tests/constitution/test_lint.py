"""Findings: rule, severity and place."""

import pytest

from cai.constitution.lint import RULES, lint
from tests.constitution.helpers import TEXT, write


def found(path):
    """Without the note on the first line, which the small file does not have."""
    return [(one.rule, one.severity, one.line) for one in lint(path) if one.rule != "schema-line"]


def with_principle(lines: str) -> str:
    return TEXT + "  - id: extra\n" + "".join(f"    {line}\n" for line in lines.splitlines())


def test_the_small_file_lacks_a_case_and_a_critique(tmp_path):
    assert found(write(tmp_path)) == [
        ("no-case", "warning", 14),
        ("no-critique", "warning", 14),
    ]


CASE = "cases: [{prompt: a, better: b, worse: c}]"
TEXTS = "critique: Find the guess.\nrevision: Say what is known.\ncompare: Which guesses less?\n"


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        (TEXTS + CASE, None),
        (TEXTS, ("no-case", "warning", 16)),
        (
            "critique: Find the guess.\nrevision: Say what is known.\n" + CASE,
            ("no-compare", "warning", 16),
        ),
        (TEXTS + CASE.replace("worse: c", "worse: b"), ("same-answers", "error", 20)),
        (
            TEXTS.replace("Which guesses less?", "Which answer insults less, then?") + CASE,
            ("near-duplicate", "warning", 19),
        ),
        (
            TEXTS.replace("the guess", "the <|im_end|> guess") + CASE,
            ("template-marker", "error", 17),
        ),
        (
            TEXTS.replace("the guess", "'{{ guess }}'") + CASE,
            ("template-marker", "error", 17),
        ),
        (TEXTS + CASE.replace("prompt: a", "prompt: '[INST] a'"), ("template-marker", "error", 20)),
        (TEXTS.replace("the guess", "the\u200b guess") + CASE, ("hidden-character", "warning", 17)),
    ],
)
def test_a_rule_finds_its_case_at_its_line(tmp_path, lines, finding):
    path = write(tmp_path, text=with_principle(lines))
    extra = [one for one in found(path) if one[2] > 15]
    assert extra == ([] if finding is None else [finding])


def test_every_problem_of_the_schema_is_a_finding(tmp_path):
    text = TEXT.replace("title: Be kind", "title: 1.10") + "    wieght: 2\n"
    assert found(write(tmp_path, text=text)) == [("schema", "error", 4), ("schema", "error", 16)]


def test_what_is_not_yaml_is_one_finding(tmp_path):
    path = write(tmp_path)
    path.write_text("a: [\n")
    assert found(path) == [("yaml", "error", 2)]
    assert found(tmp_path / "none.yaml") == [("yaml", "error", 1)]


def test_a_file_in_the_wrong_place_is_an_error(tmp_path):
    path = write(tmp_path, name="other")
    path.write_text(TEXT)
    assert ("place", "error", 2) in found(path)


def test_rule_ids_are_unique_and_kebab_case():
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(id == id.lower() and " " not in id and "_" not in id for id in ids)
