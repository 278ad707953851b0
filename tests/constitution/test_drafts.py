"""Saving a draft: checked against what is there, valid or not at all, and comments stay."""

import pytest

from cai.constitution.drafts import read_draft, save_draft
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore
from cai.errors import ConflictError, ConstitutionError, NotFoundError
from tests.constitution.helpers import TEXT, write


@pytest.fixture
def store(tmp_path):
    write(tmp_path)
    return ConstitutionStore(tmp_path)


def anything(_tag):
    """Whatever is there may be replaced."""


def shown(store, name="kind"):
    """A draft as a client gets it, with every default spelt out."""
    constitution = store.get(f"{name}@draft")
    return {"ref": constitution.ref, **constitution.model_dump(mode="json", exclude_none=True)}


def test_the_tag_is_of_the_bytes(store):
    before = read_draft(store, "kind")
    assert before.constitution.ref == "kind@draft"
    path = store.path("kind", "draft")
    path.write_text(path.read_text() + "# a comment\n")
    after = read_draft(store, "kind")
    assert after.tag != before.tag
    assert after.constitution.digest == before.constitution.digest


def test_what_was_shown_and_comes_back_changes_nothing(store):
    assert save_draft(store, "kind", content=shown(store), check=anything).text == TEXT


def test_one_change_of_the_content_changes_one_line_of_the_file(store):
    content = shown(store)
    content["principles"][1]["weight"] = 2.0
    content["title"] = "Be kinder"
    saved = save_draft(store, "kind", content=content, check=anything)
    assert saved.text == TEXT.replace("Be kind", "Be kinder") + "    weight: 2.0\n"
    assert store.path("kind", "draft").read_text() == saved.text


def test_a_text_is_taken_as_it_is(store):
    text = TEXT.replace("# the first", "# the very first")
    assert save_draft(store, "kind", text=text, check=anything).text == text


def test_the_check_sees_the_tag_and_may_refuse(store):
    def refuse(tag):
        seen.append(tag)
        raise ConflictError("no")

    seen = []
    with pytest.raises(ConflictError):
        save_draft(store, "kind", text=TEXT.replace("Be kind", "Be rude"), check=refuse)
    with pytest.raises(ConflictError):
        save_draft(store, "other", text=TEXT, check=refuse)
    assert seen == [read_draft(store, "kind").tag, None]
    assert store.get("kind@draft").title == "Be kind"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": TEXT + "    wieght: 1\n"}, "did you mean 'weight'"),
        (
            {"text": TEXT.replace("name: kind", "name: other")},
            "name is other, but the file is kind",
        ),
        ({"text": TEXT.replace("draft", "1", 1)}, "version is 1, but the file is draft"),
        ({"text": "a: &x [*x]\n"}, "has an anchor"),
        ({"content": {"title": "t", "principles": []}}, "write at least one entry"),
        ({"content": {"title": "t", "principles": 3}}, "must be a list"),
        ({"text": "x" * 300_000}, "at most 256 kB are read"),
    ],
)
def test_what_is_no_valid_draft_is_refused_and_nothing_is_written(store, given, message):
    with pytest.raises(ConstitutionError, match=message):
        save_draft(store, "kind", check=anything, **given)
    assert store.path("kind", "draft").read_text() == TEXT


def test_a_new_draft_is_begun_from_content(store):
    content = {"title": "t", "principles": [{"id": "a", "compare": "Which: is it?"}]}
    saved = save_draft(store, "fresh", content=content, check=anything)
    assert saved.text.startswith("# yaml-language-server: $schema=../schema.json\n")
    assert store.get("fresh@draft").principles[0].compare == "Which: is it?"
    assert release(store, "fresh").ref == "fresh@1"


def test_a_broken_draft_is_told_and_can_be_replaced(store):
    store.path("kind", "draft").write_text("a: [\n")
    broken = read_draft(store, "kind")
    assert (broken.constitution, broken.text) == (None, "a: [\n")
    assert "unclosed '['" in broken.error
    assert save_draft(store, "kind", text=TEXT, check=anything).constitution is not None
    store.path("kind", "draft").write_text("a: [\n")
    content = {"title": "t", "principles": [{"id": "a", "compare": "c"}]}
    assert save_draft(store, "kind", content=content, check=anything).constitution is not None


def test_names_that_lead_out_are_refused(store):
    for name in ("../x", "A", "a/b", ""):
        with pytest.raises(ConstitutionError, match="is no name"):
            read_draft(store, name)
    with pytest.raises(NotFoundError, match="'none' has no draft"):
        read_draft(store, "none")
