"""Digests that only meaning changes, and draws that only the weights decide."""

from collections import Counter

import pytest
from pydantic import ValidationError

from cai.constitution.schema import Constitution, Principle, draw
from cai.errors import ConstitutionError, NotFoundError
from cai.types import Message
from cai.yamlguard import load_yaml, validate
from tests.constitution.helpers import TEXT, comparing, of, parse


def test_comments_key_order_and_style_do_not_change_the_digest():
    other = """\
principles:
- compare: "Which answer insults less?"
  revision: >-
    Rewrite the answer
    without insults.
  cases: [{worse: "Yes, very.", prompt: 'Am I stupid?', better: No.}]
  critique: |
    Point out any insult.
  id: no-insult
- {id: be-brief, compare: 'Which answer is shorter?'}
title: 'Be kind'
version: draft
name: kind
"""
    assert parse(other).digest == parse().digest


def test_keys_at_their_default_do_not_change_the_digest():
    spelt_out = TEXT.replace("name: kind", "format: 1\nname: kind").replace(
        "principles:", "composition: sample\nfew_shot: []\nprinciples:"
    )
    spelt_out += "    weight: 1\n    tags: []\n    cases: []\n    references: []\n"
    assert parse(spelt_out).digest == parse().digest


def test_name_and_version_do_not_change_the_digest():
    renamed = TEXT.replace("name: kind", "name: other").replace("version: draft", "version: 3")
    assert parse(renamed).digest == parse().digest
    assert parse(renamed).ref == "other@3"


def test_a_key_that_a_later_schema_adds_leaves_older_digests_alone():
    class LaterPrinciple(Principle):
        severity: str = "normal"

    class LaterConstitution(Constitution):
        extends: str | None = None
        principles: tuple[LaterPrinciple, ...]

    assert validate(LaterConstitution, load_yaml(TEXT)).digest == parse().digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Be kind", "Be kinder"),
        ("Which answer is shorter?", "Which answer is longer?"),
        ("id: be-brief", "id: be-short"),
        ("better: No.", "better: No!"),
        ("id: be-brief", "id: be-brief\n    weight: 2"),
        ("id: be-brief", "id: be-brief\n    tags: [style]"),
        ("principles:", "composition: mean\nprinciples:"),
    ],
)
def test_a_change_of_content_changes_the_digest(before, after):
    assert parse(TEXT.replace(before, after)).digest != parse().digest


def test_the_order_of_principles_is_content():
    a, b = comparing("a"), comparing("b")
    assert of(a, b).digest != of(b, a).digest


def test_the_digest_is_the_one_of_its_canonical_json():
    """{"principles":[{"compare":"Which is better?","id":"a"}],"title":"t"} through sha256sum."""
    assert of(comparing("a")).digest == (
        "sha256:de7bcc0434b0842da2bf046d090232c5d37778b1f0f7c5b4f6dd0b0343b3d5ad"
    )


def test_records_are_frozen():
    with pytest.raises(ValidationError):
        parse().principles[0].weight = 2.0


def test_a_case_prompt_may_be_text_or_turns():
    case = parse().principles[0].cases[0]
    assert case.messages == (Message("user", "Am I stupid?"),)
    turns = TEXT.replace(
        "prompt: Am I stupid?",
        "prompt: [{role: user, content: Hi}, {role: assistant, content: Ho}, "
        "{role: user, content: 'Am I?'}]",
    )
    assert parse(turns).principles[0].cases[0].messages == (
        Message("user", "Hi"),
        Message("assistant", "Ho"),
        Message("user", "Am I?"),
    )


def test_an_unknown_principle_is_answered_with_the_closest():
    with pytest.raises(NotFoundError, match="did you mean 'no-insult'"):
        parse().principle("no-insults")
    assert parse().principle("be-brief").compare == "Which answer is shorter?"


def test_only_principles_with_the_texts_of_a_step_are_drawn_for_it():
    constitution = parse()
    critics = {
        draw(constitution, step="critique", seed=0, row=str(row), index=0).id for row in range(50)
    }
    judges = {
        draw(constitution, step="compare", seed=0, row=str(row), index=0).id for row in range(50)
    }
    assert critics == {"no-insult"}
    assert judges == {"no-insult", "be-brief"}


def test_no_principle_for_a_step_is_an_error_that_names_the_text():
    with pytest.raises(ConstitutionError, match="no principle of kind@draft has 'critique' and"):
        draw(of(comparing("a")), step="critique", seed=0, row="r", index=0)


def drawn(constitution: Constitution, num_rows: int, *, seed: int = 7, index: int = 0) -> list[str]:
    return [
        draw(constitution, step="compare", seed=seed, row=f"row-{row}", index=index).id
        for row in range(num_rows)
    ]


def test_the_same_inputs_give_the_same_draw_and_others_give_others():
    constitution = of(*(comparing(id) for id in "abcd"))
    assert drawn(constitution, 200) == drawn(constitution, 200)
    assert drawn(constitution, 200) != drawn(constitution, 200, seed=8)
    assert drawn(constitution, 200) != drawn(constitution, 200, index=1)


def test_a_known_draw_stays_what_it_was():
    """Recorded draws: data made today can be made again by later versions."""
    constitution = of(*(comparing(id) for id in "abcd"))
    assert "".join(drawn(constitution, 16)) == "acabdaddbababcbc"


def test_a_new_principle_only_moves_rows_to_itself():
    """Of 4,000 rows about one in five moves to the fifth of five equal principles."""
    before = drawn(of(*(comparing(id) for id in "abcd")), 4_000)
    after = drawn(of(*(comparing(id) for id in "eabcd")), 4_000)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"e"}
    assert 700 < len(moved) < 900


def test_frequencies_follow_the_weights():
    """Weights 1, 2 and 5 of 8 over 8,000 rows: 1,000, 2,000 and 5,000, within five deviations."""
    constitution = of(comparing("a", 1), comparing("b", 2), comparing("c", 5))
    counts = Counter(drawn(constitution, 8_000))
    assert abs(counts["a"] - 1_000) < 150
    assert abs(counts["b"] - 2_000) < 195
    assert abs(counts["c"] - 5_000) < 220


def test_the_order_in_the_file_does_not_change_a_draw():
    ids = [comparing(id) for id in "abcd"]
    assert drawn(of(*ids), 200) == drawn(of(*reversed(ids)), 200)


def test_tiny_and_huge_weights_are_drawn_without_a_failure():
    constitution = of(comparing("a", 5e-324), comparing("b", 1e6))
    assert set(drawn(constitution, 100)) == {"b"}
    assert set(drawn(of(comparing("a", 5e-324), comparing("b", 5e-324)), 20)) == {"a"}
