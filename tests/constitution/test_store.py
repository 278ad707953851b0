"""References, verified releases, and a folder that cannot be left."""

import json
from pathlib import Path

import pytest

from cai.constitution.lock import LOCK_NAME
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore, Ref, parse_ref
from cai.errors import ConstitutionError, NotFoundError, TamperedReleaseError
from tests.constitution.helpers import TEXT, write

SHIPPED = Path(__file__).parents[2] / "constitutions"


@pytest.fixture
def store(tmp_path):
    """kind@1, kind@2 and a draft that goes on from there."""
    store = ConstitutionStore(tmp_path)
    write(tmp_path)
    release(store, "kind")
    write(tmp_path, text=TEXT.replace("Be kind", "Be kinder"))
    release(store, "kind")
    write(tmp_path, text=TEXT.replace("Be kind", "Be kindest"))
    return store


def test_a_reference_names_a_release_a_draft_or_the_newest(store):
    assert store.get("kind@1").title == "Be kind"
    assert store.get("kind@draft").title == "Be kindest"
    assert store.get("kind").ref == "kind@2"


def test_numbers_sort_as_numbers(store):
    for _ in range(8):
        draft = store.path("kind", "draft")
        draft.write_text(draft.read_text().replace("Be ", "Be very "))
        release(store, "kind")
    assert store.get("kind").ref == "kind@10"
    assert store.versions("kind") == (*range(1, 11), "draft")


def test_an_unknown_name_is_answered_with_the_closest_and_its_versions(store):
    with pytest.raises(NotFoundError) as caught:
        store.get("kin@2")
    assert caught.value.message == (
        "no constitution 'kin@2'; did you mean 'kind@2'? versions: 1, 2, draft"
    )


def test_an_unknown_version_is_answered_with_those_there_are(store):
    with pytest.raises(NotFoundError, match=r"no constitution 'kind@7'; versions: 1, 2, draft$"):
        store.get("kind@7")


def test_a_name_with_only_a_draft_has_no_newest_release(tmp_path):
    write(tmp_path)
    with pytest.raises(NotFoundError, match="no release yet: use 'kind@draft'"):
        ConstitutionStore(tmp_path).get("kind")


def test_a_missing_folder_is_an_empty_store(tmp_path):
    store = ConstitutionStore(tmp_path / "none")
    assert store.list() == ()
    with pytest.raises(NotFoundError, match="begin one with 'cai constitution new NAME'"):
        store.get("kind")


@pytest.mark.parametrize(
    "ref",
    [
        *("", "@1", "kind@", "kind@0", "kind@01", "kind@-1", "kind@1.0", "kind@latest", "kind@1@2"),
        *("Kind@1", "../kind@1", "..", ".", "kind/../kind@1", "kind\\1", "kind\0@1", "kind@1\n"),
        *(
            "%2e%2e@1",
            "%252e%252e%252fkind",
            "kınd@1",
            "kind@١",
            "kind＠1",
            "a" * 65,
            "/etc/passwd",
        ),
    ],
)
def test_what_is_no_reference_is_refused_before_any_path_is_made(store, ref):
    with pytest.raises(ConstitutionError, match="is no constitution; write name@2"):
        store.get(ref)


def test_references_print_as_they_are_read():
    for text in ("kind", "kind@draft", "kind@12", "a.b_c-1@3"):
        assert str(parse_ref(text)) == text
    assert parse_ref("kind@12") == Ref("kind", 12)


def test_an_edited_release_is_refused_by_name_with_both_digests(store):
    recorded = store.get("kind@1").digest
    path = store.path("kind", 1)
    path.write_text(path.read_text().replace("Be kind", "Be rude"))
    with pytest.raises(TamperedReleaseError) as caught:
        store.get("kind@1")
    found = store.load("kind", 1).digest
    assert found != recorded
    for part in ("kind@1", found, recorded, str(path), "draft.yaml"):
        assert part in caught.value.message


def test_a_comment_in_a_release_is_no_edit(store):
    digest = store.get("kind@1").digest
    path = store.path("kind", 1)
    path.write_text("# a word on history\n" + path.read_text())
    assert store.get("kind@1").digest == digest


def test_a_release_that_is_not_recorded_is_refused_with_the_way_out(store, tmp_path):
    write(tmp_path, version="3")
    with pytest.raises(ConstitutionError, match="run 'cai constitution release kind'"):
        store.get("kind@3")


def test_a_recorded_release_without_a_file_is_told_and_not_skipped(store):
    store.path("kind", 2).unlink()
    for ref in ("kind@2", "kind"):
        with pytest.raises(ConstitutionError, match="records kind@2; restore it from version"):
            store.get(ref)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"format": 1}', '{"format": 2, "releases": {}}', "{", "[" * 100_000),
        *('{"format": 1, "releases": []}', '{"format": 1, "releases": {"kind@1": "sha256:0"}}'),
        *('{"format": 1, "releases": {"../kind@1": "sha256:0"}}', "\0", '{"format": 1e999}'),
    ],
)
def test_a_broken_lock_is_refused_by_name(store, content):
    (store.root / LOCK_NAME).write_text(content)
    with pytest.raises(ConstitutionError, match=r"releases\.lock.*restore it from version control"):
        store.get("kind@1")


def test_name_and_version_must_be_those_of_the_path(store, tmp_path):
    path = write(tmp_path, name="other")
    path.write_text(TEXT)
    with pytest.raises(ConstitutionError, match=r"draft\.yaml:2:7: name is kind, but the file is"):
        store.get("other@draft")
    path = write(tmp_path, version="9")
    path.write_text(TEXT)
    with pytest.raises(ConstitutionError, match=r"9\.yaml:3:10: version is draft, but the file is"):
        store.load("kind", 9)


def test_a_link_out_of_the_root_is_not_followed(store, tmp_path_factory):
    outside = write(tmp_path_factory.mktemp("outside"), name="far")
    (store.root / "far").symlink_to(outside.parent)
    (store.root / "near").mkdir()
    (store.root / "near" / "draft.yaml").symlink_to(outside)
    for ref in ("far@draft", "near@draft"):
        with pytest.raises(ConstitutionError, match="leads out of"):
            store.get(ref)


def test_an_edited_draft_is_read_again_and_an_untouched_one_is_not(store):
    first = store.get("kind@draft")
    assert store.get("kind@draft") is first
    path = store.path("kind", "draft")
    path.write_text(path.read_text().replace("kindest", "calmest"))
    assert store.get("kind@draft").title == "Be calmest"


def test_the_list_has_every_version_and_says_what_is_broken(store, tmp_path):
    write(tmp_path, name="odd").write_text("name: [\n")
    store.path("kind", 1).write_text(
        TEXT.replace("version: draft", "version: 1") + "    tags: [x]\n"
    )
    (tmp_path / "notes.txt").write_text("not a constitution")
    (tmp_path / "empty").mkdir()
    listed = {one.ref: one for one in store.list()}
    assert list(listed) == ["kind@1", "kind@2", "kind@draft", "odd@draft"]
    assert [one.state for one in listed.values()] == ["broken", "released", "draft", "broken"]
    assert "was edited" in listed["kind@1"].error
    assert listed["kind@2"].num_principles == 2
    assert listed["kind@2"].digest == store.get("kind@2").digest
    assert "draft.yaml:2:1" in listed["odd@draft"].error


def test_a_broken_draft_leaves_the_releases_usable(store):
    store.path("kind", "draft").write_text("name: [\n")
    assert store.get("kind").ref == "kind@2"


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no constitutions are shipped here")
def test_every_shipped_constitution_is_whole():
    listed = ConstitutionStore(SHIPPED).list()
    assert [one for one in listed if one.state == "broken"] == []
    recorded = json.loads((SHIPPED / LOCK_NAME).read_text())["releases"]
    assert {one.ref: one.digest for one in listed if one.state == "released"} == recorded
