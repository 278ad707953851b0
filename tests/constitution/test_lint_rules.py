"""What each rule takes exception to, and what it leaves alone."""

from pathlib import Path

import pytest

from cai.constitution.lint import lint, open_findings, rule_ids
from cai.constitution.lint_words import doubled, leading, negated
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore
from tests.constitution.helpers import TEXT, write

SHIPPED = sorted(Path("constitutions").glob("*/*.yaml"))
HEAD = "# yaml-language-server: $schema=../schema.json\nname: kind\nversion: draft\ntitle: t\n"


def rules(path, *, answered=False):
    found = lint(path) if answered else open_findings(lint(path))
    return [(one.rule, one.line) for one in found]


def of_principle(tmp_path, *lines, head=HEAD):
    text = head + "principles:\n  - id: a\n" + "".join(f"    {line}\n" for line in lines)
    return [rule for rule, _ in rules(write(tmp_path, text=text)) if not rule.startswith("no-")]


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_shipped_file_is_clean_or_has_its_reasons(path):
    assert open_findings(lint(path)) == []


@pytest.mark.parametrize(
    ("check", "question", "found"),
    [
        (leading, "Which answer is clearly kinder?", "clearly"),
        (leading, "Isn't answer A kinder?", "answer A"),
        (leading, "Don't you think that one is kinder?", "Don't you think"),
        (leading, "Is the first answer kinder?", "first answer"),
        (leading, "The kinder one is the shorter, right?", "right?"),
        (leading, "Which answer states more clearly what is so?", "clearly"),
        (leading, "Which answer is right and which is wrong?", None),
        (leading, "Which answer is kinder?", None),
        (doubled, "Which is kinder? Which is shorter?", "? Which is shorter?"),
        (doubled, "Which is kind, and which is brief?", "and which"),
        (doubled, "Which is safer and more polite?", "safer and more"),
        (doubled, "Which answer is less harmful or less rude?", "less harmful or less"),
        (doubled, "Which is less harmful and cruel?", None),
        (doubled, "Which answer is more willing to help and say why?", None),
        (negated, "Which answer does not insult?", "not"),
        (negated, "Which answer doesn't insult?", "doesn't"),
        (negated, "Which answer never insults?", "never"),
        (negated, "Which answer fails to insult?", "fails to"),
        (negated, "Which answer avoids insults?", "avoids"),
        (negated, "Which answer insults less?", None),
        (negated, "Which answer ties the better knot?", None),
    ],
)
def test_questions_that_lead_double_or_negate(check, question, found):
    assert check(question) == found


@pytest.mark.parametrize(
    ("question", "rule"),
    [
        ("Surely the kinder one?", "leading-question"),
        ("Which is kinder and more polite?", "double-question"),
        ("Which does not insult?", "negation"),
    ],
)
def test_a_question_is_looked_at_in_compare(tmp_path, question, rule):
    assert of_principle(tmp_path, f"compare: {question}") == [rule]


def test_a_case_that_its_length_gives_away(tmp_path):
    """16 words against 8: twice as many, and 8 more."""
    case = f"cases: [{{prompt: a, better: {'b ' * 16}, worse: {'w ' * 8}}}]"
    assert of_principle(tmp_path, "compare: Which is kinder", case) == ["answer-length"]
    case = f"cases: [{{prompt: a, better: {'b ' * 15}, worse: {'w ' * 8}}}]"
    assert of_principle(tmp_path, "compare: Which is kinder", case) == []


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([(3, 2), (6, 4)], ["length-pattern"]),
        ([(2, 3), (4, 6)], ["length-pattern"]),
        ([(3, 2), (4, 6)], []),
        ([(3, 2)], []),
    ],
)
def test_cases_that_teach_length(tmp_path, lengths, found):
    cases = ", ".join(
        f"{{prompt: a, better: {'b ' * better}, worse: {'w ' * worse}}}"
        for better, worse in lengths
    )
    assert of_principle(tmp_path, "compare: Which is kinder", f"cases: [{cases}]") == found


@pytest.mark.parametrize(
    ("composition", "lines", "found"),
    [
        ("priority", ["compare: Which is kinder", "weight: 2"], ["idle-weight"]),
        ("veto", ["compare: Which is kinder", "weight: 2", "tags: [veto]"], ["idle-weight"]),
        ("mean", ["compare: Which is kinder", "weight: 2"], []),
        (
            "priority",
            ["compare: Which is kinder", "weight: 2", "critique: Find.", "revision: Mend."],
            [],
        ),
    ],
)
def test_weights_that_cannot_matter(tmp_path, composition, lines, found):
    """With a critique the weight still decides how often the principle is drawn for one."""
    head = HEAD + f"composition: {composition}\n"
    second = ["- id: b", "  compare: Which is shorter"]
    text = head + "principles:\n  - id: a\n" + "".join(f"    {line}\n" for line in lines)
    text += "".join(f"  {line}\n" for line in second)
    got = [rule for rule, _ in rules(write(tmp_path, text=text)) if not rule.startswith("no-")]
    assert got == found


def test_a_weight_beside_no_other_principle_is_idle(tmp_path):
    assert of_principle(tmp_path, "compare: Which is kinder", "weight: 2") == ["idle-weight"]


def test_equal_weights_are_no_weights(tmp_path):
    text = (
        HEAD
        + "principles:\n"
        + "".join(f"  - {{id: {id}, compare: {id} {id}{id}, weight: 2}}\n" for id in "ab")
    )
    assert ("equal-weights", 6) in rules(write(tmp_path, text=text))


def test_the_same_question_twice_is_an_error_and_a_near_one_a_warning(tmp_path):
    text = (
        HEAD
        + "principles:\n"
        + "".join(
            f"  - {{id: {id}, compare: {text}}}\n"
            for id, text in (
                ("a", "Which is kinder"),
                ("b", "which IS kinder"),
                ("c", "Other words"),
            )
        )
    )
    found = [one for one in lint(write(tmp_path, text=text)) if "duplicate" in one.rule]
    assert [(one.rule, one.severity, one.line) for one in found] == [("duplicate", "error", 7)]


def test_what_a_base_says_is_not_the_childs_to_answer_for(tmp_path):
    store = ConstitutionStore(tmp_path)
    write(tmp_path, text=TEXT.replace("Which answer insults less?", "Which does not insult?"))
    release(store, "kind")
    text = HEAD.replace("kind", "child") + "extends: kind@1\nprinciples:\n"
    text += "  - {id: be-brief, weight: 2}\n  - {id: be-curt, compare: Which answer is shorter}\n"
    path = write(tmp_path, name="child", text=text)
    assert [rule for rule, _ in rules(path)] == [
        *("no-case", "no-critique", "no-case", "no-critique", "duplicate")
    ]


def test_a_broken_base_is_one_finding_at_extends(tmp_path):
    text = HEAD.replace("kind", "child") + "extends: none@1\nprinciples: []\n"
    assert rules(write(tmp_path, name="child", text=text)) == [("extends", 5)]


LENGTHY = f"    cases: [{{prompt: a, better: {'b ' * 20}, worse: w}}]"
ONE = (
    HEAD + "principles:\n  - id: a\n    critique: Find.\n    revision: Mend.\n    compare: Which\n"
)


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("behind", f"{ONE}{LENGTHY} # lint: allow answer-length: on purpose\n"),
        ("above", f"{ONE}    # lint: allow answer-length, negation: on purpose\n{LENGTHY}\n"),
        ("of the file", f"{ONE}{LENGTHY}\n# lint: allow-file answer-length: on purpose\n"),
    ],
)
def test_a_comment_answers_a_finding_and_gives_the_reason(tmp_path, comment, text):
    path = write(tmp_path, text=text)
    assert rules(path) == []
    assert [(one.rule, one.allowed) for one in lint(path)] == [("answer-length", "on purpose")]


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("# lint: allow answer-length", ["allowed-without-reason", "answer-length"]),
        ("# lint: allow negation: why not", ["answer-length", "needless-allow"]),
        ("# lint: allow answer-lenght: typo", ["answer-length", "needless-allow"]),
    ],
)
def test_a_comment_needs_a_reason_and_a_finding(tmp_path, comment, found):
    path = write(tmp_path, text=f"{ONE}{LENGTHY} {comment}\n")
    assert sorted(rule for rule, _ in rules(path)) == found


def test_what_looks_like_such_a_comment_inside_a_text_is_none(tmp_path):
    text = ONE.replace("compare: Which", "compare: |\n      Which\n      # lint: allow-file x: y")
    path = write(tmp_path, text=f"{text}{LENGTHY}\n")
    assert [rule for rule, _ in rules(path)] == ["answer-length"]


def test_an_error_cannot_be_allowed(tmp_path):
    text = ONE.replace("Find.", "Find [INST].  # lint: allow template-marker: I know")
    assert "template-marker" in [rule for rule, _ in rules(write(tmp_path, text=text))]


def test_every_rule_has_an_id_of_its_own():
    assert len(rule_ids()) == len(set(rule_ids()))
