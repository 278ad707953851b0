"""Releases keep the draft's text, are written once, and are found whole after a crash."""

import json
import multiprocessing

import pytest

from cai.constitution import release as release_module
from cai.constitution.lint import lint
from cai.constitution.lock import LOCK_NAME
from cai.constitution.release import new_draft, release
from cai.constitution.store import ConstitutionStore
from cai.errors import ConflictError, ConstitutionError, NotFoundError, TamperedReleaseError
from tests.constitution.helpers import TEXT, write


@pytest.fixture
def store(tmp_path):
    write(tmp_path)
    return ConstitutionStore(tmp_path)


def test_a_release_is_the_draft_but_for_its_version_line(store):
    released = release(store, "kind")
    assert released.ref == "kind@1"
    assert store.path("kind", 1).read_text() == TEXT.replace("version: draft", "version: 1")
    assert store.path("kind", "draft").read_text() == TEXT
    lock = json.loads((store.root / LOCK_NAME).read_text())
    assert lock == {"format": 1, "releases": {"kind@1": released.digest}}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("version: draft", "version: 1"),
        ("version: 'draft'", "version: 1"),
        ('"version": "draft" # draft', '"version": 1 # draft'),
        ("version:   draft   ", "version:   1   "),
        ("version: draft\r", "version: 1\r"),
    ],
)
def test_only_the_word_is_edited_however_it_is_written(store, written, expected):
    path = store.path("kind", "draft")
    path.write_bytes(TEXT.replace("version: draft", written, 1).encode())
    release(store, "kind")
    text = store.path("kind", 1).read_bytes().decode()
    assert text == TEXT.replace("version: draft", expected, 1)


def test_a_version_written_as_a_block_is_refused_with_the_way_out(store):
    path = store.path("kind", "draft")
    path.write_text(TEXT.replace("version: draft", "version: >-\n  draft\ncomposition: sample"))
    with pytest.raises(ConstitutionError, match="write 'version: draft'"):
        release(store, "kind")


def test_a_draft_that_says_nothing_new_is_not_released(store):
    release(store, "kind")
    path = store.path("kind", "draft")
    path.write_text("# another comment\n" + path.read_text())
    with pytest.raises(ConflictError, match=r"kind@draft has the content of kind@1; edit"):
        release(store, "kind")
    assert store.versions("kind") == (1, "draft")


def test_there_is_no_release_without_a_draft(store):
    with pytest.raises(NotFoundError, match="make one with 'cai constitution new other'"):
        release(store, "other")


def test_a_broken_draft_is_not_released(store):
    store.path("kind", "draft").write_text(TEXT + "    wieght: 2\n")
    with pytest.raises(ConstitutionError, match="did you mean 'weight'"):
        release(store, "kind")
    assert store.versions("kind") == ("draft",)


def test_an_edited_release_stops_the_next_one(store):
    release(store, "kind")
    path = store.path("kind", 1)
    path.write_text(path.read_text().replace("Be kind", "Be rude"))
    with pytest.raises(TamperedReleaseError):
        release(store, "kind")


def test_a_release_cut_off_before_its_record_is_finished_by_the_next_call(store, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(release_module, "write_lock", fail)
        with pytest.raises(OSError, match="no space left"):
            release(store, "kind")
    with pytest.raises(ConstitutionError, match="is not recorded"):
        store.get("kind@1")
    assert release(store, "kind").ref == "kind@1"
    assert store.get("kind").ref == "kind@1"


def test_an_unrecorded_file_that_differs_from_the_draft_is_not_taken_over(store):
    write(store.root, version="1", text=TEXT.replace("Be kind", "Be rude"))
    with pytest.raises(ConflictError, match="kind@1 is not recorded in releases"):
        release(store, "kind")


def test_files_written_by_hand_are_recorded_one_by_one(store):
    for number in (1, 2):
        write(store.root, version=str(number), text=TEXT.replace("Be kind", f"Be kind {number}"))
    for number in (1, 2):
        write(store.root, text=TEXT.replace("Be kind", f"Be kind {number}"))
        assert release(store, "kind").ref == f"kind@{number}"
    assert store.get("kind").title == "Be kind 2"


def test_two_releases_at_once_give_one(store):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        outcomes = pool.starmap(_try_release, [(str(store.root), "kind")] * 4)
    assert sorted(outcomes) == ["ConflictError"] * 3 + ["kind@1"]
    assert store.versions("kind") == (1, "draft")


def _try_release(root, name):
    try:
        return release(ConstitutionStore(root), name).ref
    except ConflictError as exc:
        return type(exc).__name__


def test_a_new_draft_is_an_example_without_findings(tmp_path):
    store = ConstitutionStore(tmp_path / "constitutions")
    path = new_draft(store, "fresh")
    assert lint(path) == []
    assert store.get("fresh@draft").name == "fresh"
    with pytest.raises(ConflictError, match="exists; edit it, or delete it"):
        new_draft(store, "fresh")


def test_a_new_draft_goes_on_from_the_newest_release(store):
    release(store, "kind")
    store.path("kind", "draft").unlink()
    assert new_draft(store, "kind").read_text() == TEXT


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "a/b", "-a", "a" * 65])
def test_a_draft_needs_a_proper_name(store, name):
    with pytest.raises(ConstitutionError, match="is no name"):
        new_draft(store, name)


def test_the_lock_is_sorted_by_name_and_number(tmp_path):
    store = ConstitutionStore(tmp_path)
    for name in ("b", "a"):
        for number in range(11 if name == "b" else 1):
            write(tmp_path, name=name, text=TEXT.replace("Be kind", f"Be kind {number}"))
            release(store, name)
    refs = list(json.loads((tmp_path / LOCK_NAME).read_text())["releases"])
    assert refs == ["a@1", *(f"b@{number}" for number in range(1, 12))]
