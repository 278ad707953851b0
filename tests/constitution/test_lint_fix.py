"""Repairs: what they change, what they leave, and that a release keeps its digest."""

from cai.constitution.lint import lint
from cai.constitution.lint_fix import fix
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore
from tests.constitution.helpers import TEXT, write

ODD = TEXT.replace("any insult.", "any\u200b insult.").replace(
    "be-brief\n", "be-brief\n    tags: [a, b, a]   # thrice\n"
)


def test_a_draft_is_repaired_and_its_comments_stay(tmp_path):
    path = write(tmp_path, text=ODD)
    done = fix(path)
    assert sorted(one.rule for one in done.repaired) == [
        *("hidden-character", "repeated-tag", "schema-line")
    ]
    text = path.read_text()
    assert text == "# yaml-language-server: $schema=../schema.json\n" + TEXT.replace(
        "be-brief\n", "be-brief\n    tags: [a, b]      # thrice\n"
    )
    assert fix(path).repaired == ()


def test_a_release_gets_its_first_line_and_keeps_its_digest(tmp_path):
    store = ConstitutionStore(tmp_path)
    write(tmp_path, text=ODD)
    before = release(store, "kind").digest
    done = fix(store.path("kind", 1))
    assert [one.rule for one in done.repaired] == ["schema-line"]
    assert "make the change in draft.yaml" in done.kept
    assert ConstitutionStore(tmp_path).get("kind@1").digest == before
    assert "hidden-character" in [one.rule for one in lint(store.path("kind", 1))]


def test_a_file_that_cannot_be_used_is_left_alone(tmp_path):
    for text in ("a: [\n", TEXT + "    wieght: 2\n"):
        path = write(tmp_path, text=text)
        before = path.read_text()
        assert fix(path) == ((), None)
        assert path.read_text() == before
    assert fix(tmp_path / "none.yaml") == ((), None)
