"""A long-running store: edits are taken when they are whole and good, else the last good stays."""

import logging
import os
import time

import pytest

from cai.constitution.live import GRACE_S, SETTLED_S, LiveStore
from cai.constitution.lock import LOCK_NAME
from cai.constitution.release import release
from cai.errors import ConstitutionError, NotFoundError, TamperedReleaseError
from tests.constitution.helpers import TEXT, write


@pytest.fixture
def store(tmp_path):
    """kind@1 and a draft of the same, both known."""
    store = LiveStore(tmp_path)
    aged(write(tmp_path))
    release(store, "kind")
    store.refresh()
    return store


def aged(path):
    """As if the file had been written a while ago."""
    then = time.time() - 10
    os.utime(path, (then, then))
    return path


def edit(store, old, new, *, settled=True):
    path = store.path("kind", "draft")
    path.write_text(path.read_text().replace(old, new))
    if settled:
        time.sleep(SETTLED_S * 1.2)


def test_an_edit_is_taken_once_the_file_is_left_alone(store):
    edit(store, "Be kind", "Be kinder", settled=False)
    assert store.get("kind@draft").title == "Be kind"
    time.sleep(SETTLED_S * 1.2)
    assert store.get("kind@draft").title == "Be kinder"


def test_a_broken_edit_is_told_once_and_leaves_the_last_good(store, caplog):
    caplog.set_level(logging.INFO)
    digest = store.get("kind@draft").digest
    edit(store, "principles:", "prinicples:")
    for _ in range(3):
        assert store.get("kind@draft").digest == digest
    (line,) = [one.getMessage() for one in caplog.records if "not taken" in one.getMessage()]
    assert f"kind@draft: edit not taken, digest {digest} stays: " in line
    assert "did you mean 'principles'" in line
    listed = {one.ref: one for one in store.list()}
    assert listed["kind@draft"].state == "draft"
    assert "did you mean 'principles'" in listed["kind@draft"].error
    edit(store, "prinicples:", "principles:")
    edit(store, "Be kind", "Be kinder")
    assert store.get("kind@draft").title == "Be kinder"
    assert any("kind@draft: edit taken" in one.getMessage() for one in caplog.records)
    assert all(one.error is None for one in store.list())


def test_a_file_that_is_half_written_is_not_read(store):
    path = store.path("kind", "draft")
    half = TEXT[: TEXT.index("  - id: be-brief")]
    path.write_text(half)
    assert len(store.get("kind@draft").principles) == 2
    path.write_text(TEXT)
    assert len(store.get("kind@draft").principles) == 2


def test_what_this_process_wrote_is_taken_at_once(store):
    edit(store, "Be kind", "Be kinder", settled=False)
    store.wrote(store.path("kind", "draft"))
    assert store.get("kind@draft").title == "Be kinder"


def test_a_draft_that_is_gone_for_a_moment_stays_and_then_is_gone(store):
    store.path("kind", "draft").unlink()
    assert store.get("kind@draft").title == "Be kind"
    with pytest.raises(NotFoundError):
        store.get("kind@7")
    store._gone[store.root / "kind" / "draft.yaml"] -= GRACE_S
    with pytest.raises(NotFoundError):
        store.get("kind@draft")
    aged(write(store.root, text=TEXT.replace("Be kind", "Be back")))
    assert store.get("kind@draft").title == "Be back"


def test_the_newest_release_is_the_newest_that_is_recorded(store):
    write(store.root, version="2", text=TEXT.replace("Be kind", "Be kinder"))
    assert store.get("kind").ref == "kind@1"
    with pytest.raises(ConstitutionError, match="not recorded"):
        store.get("kind@2")
    store.path("kind", 2).unlink()
    edit(store, "Be kind", "Be kinder")
    assert release(store, "kind").ref == "kind@2"
    assert store.get("kind").title == "Be kinder"


def test_an_edited_release_is_refused_all_the_same(store):
    path = store.path("kind", 1)
    aged(write(store.root, version="1", text=TEXT.replace("Be kind", "Be rude")))
    assert path.exists()
    with pytest.raises(TamperedReleaseError):
        store.get("kind@1")


def test_a_broken_or_missing_lock_leaves_the_last_good_one(store, caplog):
    lock = store.root / LOCK_NAME
    whole = lock.read_text()
    for broken in ("{", None):
        lock.write_text(broken) if broken else lock.unlink()
        assert store.get("kind").ref == "kind@1"
        assert store.get("kind").ref == "kind@1"
    assert sum("releases.lock: not taken" in one.getMessage() for one in caplog.records) == 1
    lock.write_text(whole)
    assert store.get("kind").ref == "kind@1"


def test_a_draft_seen_first_is_waited_for(tmp_path):
    store = LiveStore(tmp_path)
    write(tmp_path)
    began = time.monotonic()
    assert store.get("kind@draft").title == "Be kind"
    assert time.monotonic() - began >= SETTLED_S * 0.5
    write(tmp_path, name="other").write_text("a: [\n")
    with pytest.raises(ConstitutionError, match=r"other/draft\.yaml:2:1"):
        store.get("other@draft")


def test_an_edit_of_a_base_reaches_what_stands_on_it(store):
    text = "name: child\nversion: draft\ntitle: t\nextends: kind@draft\nprinciples: []\n"
    aged(write(store.root, name="child", text=text))
    assert store.get("child@draft").principles[0].compare == "Which answer insults less?"
    edit(store, "insults less", "offends less")
    assert store.get("child@draft").principles[0].compare == "Which answer offends less?"
    edit(store, "title: Be kind", "title: 7")
    assert store.get("child@draft").principles[0].compare == "Which answer offends less?"


def test_a_release_freezes_the_file_and_not_the_last_good_draft(store):
    edit(store, "Be kind", "Be kinder", settled=False)
    assert store.get("kind@draft").title == "Be kind"
    assert release(store, "kind").title == "Be kinder"


def test_refresh_reads_all_and_tells_what_is_broken(store, caplog):
    aged(write(store.root, name="odd")).write_text("a: [\n")
    store.refresh()
    assert any("constitution odd@draft: " in one.getMessage() for one in caplog.records)
