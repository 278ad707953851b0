"""The records of jobs and the lines of workers: who may write what, and when somebody is dead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text, update

from cai.errors import ConflictError, InputError, NotFoundError
from cai.jobs import workers as workers_module
from cai.jobs.spec import JobSpec, Progress, RequestKey
from cai.jobs.workers import WorkerStore, machine
from cai.tables import job_workers
from tests.jobs.helpers import Workshop

SPEC = JobSpec(kind="toy", params={})
HALF = Progress(stage="running", done=1, total=2)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(tmp_path) as shop:
        yield shop


def queued(shop: Workshop, **more: object) -> str:
    record = shop.jobs.store.submit(SPEC, actor="me", enqueue=lambda *_: None, **more)  # type: ignore[arg-type]
    return record.id


def test_a_job_that_cannot_be_queued_is_not_recorded(shop: Workshop) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no queue")

    with pytest.raises(RuntimeError):
        shop.jobs.store.submit(SPEC, actor="me", enqueue=fail)
    assert shop.jobs.store.page() == []


def test_a_job_and_its_place_in_the_queue_are_written_together(shop: Workshop) -> None:
    low, high = shop.submit(priority=10), shop.submit(priority=90)
    query = "SELECT workflow_uuid, status, priority FROM workflow_status ORDER BY priority"
    with shop.database.read() as connection:
        rows = [tuple(row) for row in connection.execute(text(query))]
    assert rows == [(high.id, "ENQUEUED", 11), (low.id, "ENQUEUED", 91)]


def test_what_is_kept_of_the_queue_is_json_and_no_pickle(shop: Workshop) -> None:
    id = shop.submit().id
    query = "SELECT s.serialization, i.inputs FROM workflow_status s, workflow_input i"
    with shop.database.read() as connection:
        ((form, inputs),) = connection.execute(text(query)).all()
    assert (form, inputs) == ("portable_json", f'{{"namedArgs":{{}},"positionalArgs":["{id}"]}}')


def test_two_jobs_never_write_to_one_target(shop: Workshop) -> None:
    first = queued(shop, target="runs/a")
    with pytest.raises(ConflictError, match=f"the job '{first}' is queued and writes to runs/a"):
        queued(shop, target="runs/a")
    shop.jobs.store.finish(first, "failed", error="it did")
    assert queued(shop, target="runs/a") != first


def test_the_same_request_again_is_the_same_job(shop: Workshop) -> None:
    first = queued(shop, request=RequestKey("k", "body"), target="runs/a")
    assert queued(shop, request=RequestKey("k", "body"), target="runs/a") == first
    with pytest.raises(InputError, match="another job"):
        queued(shop, request=RequestKey("k", "other"))


def test_only_the_worker_that_has_a_job_writes_to_it(shop: Workshop) -> None:
    store, id = shop.jobs.store, queued(shop)
    assert not store.progress(id, "w1", HALF)
    store.begin_attempt(id, "w1")
    assert store.progress(id, "w1", HALF)
    assert store.begin_attempt(id, "w2").attempts == 2
    assert not store.progress(id, "w1", HALF)
    assert not store.note(id, "w1", "gate", {})
    assert shop.types(id) == ["submitted", "started", "started"]


def test_the_first_end_of_a_job_counts(shop: Workshop) -> None:
    store, id = shop.jobs.store, queued(shop)
    store.begin_attempt(id, "w1")
    assert store.finish(id, "succeeded", result={"run": "a"})
    assert not store.finish(id, "failed", error="late")
    record = store.begin_attempt(id, "w2")
    assert (record.state, record.error, record.attempts) == ("succeeded", None, 1)
    with pytest.raises(ConflictError, match="is succeeded already"):
        store.cancel(id, actor="me")


def test_a_released_attempt_does_not_count(shop: Workshop) -> None:
    store, id = shop.jobs.store, queued(shop)
    store.begin_attempt(id, "w1")
    store.release(id, "w1")
    assert (store.get(id).state, store.get(id).attempts) == ("queued", 0)
    assert store.begin_attempt(id, "w2").attempts == 1


def test_a_running_job_is_cancelled_once(shop: Workshop) -> None:
    store, id = shop.jobs.store, queued(shop)
    store.begin_attempt(id, "w1")
    record = store.cancel(id, actor="me")
    assert (record.state, record.is_cancelling) == ("running", True)
    with pytest.raises(ConflictError, match="is being cancelled already"):
        store.cancel(id, actor="me")


@pytest.mark.parametrize("id", ["none", "../jobs", "J", ""])
def test_a_job_that_is_none_is_named(shop: Workshop, id: str) -> None:
    with pytest.raises((NotFoundError, InputError)):
        shop.jobs.store.get(id)


def test_a_dead_process_of_this_machine_is_seen_at_once(shop: Workshop) -> None:
    workers = WorkerStore(shop.database)
    workers.register("me")
    script = (
        "import sys; from pathlib import Path; from cai.db import Database\n"
        "from cai.jobs.workers import WorkerStore\n"
        "WorkerStore(Database(sys.argv[1])).register('other')"
    )
    url = shop.database.url.render_as_string()
    subprocess.run([sys.executable, "-c", script, url], check=True, timeout=30)
    assert workers.dead() == ["other"]
    assert workers.heartbeat("me")
    assert not workers.heartbeat("other")


def test_a_silent_worker_of_another_machine_is_dead_after_its_lease(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = WorkerStore(shop.database, lease_s=60)
    line = {"machine": "elsewhere", "mark": "1:1:1", "started_at": "", "has_ended": False}
    with shop.database.begin() as connection:
        connection.execute(insert(job_workers).values(id="far", seen_at=1000.0, **line))
    monkeypatch.setattr(workers_module.time, "time", lambda: 1059.0)
    assert workers.dead() == []
    monkeypatch.setattr(workers_module.time, "time", lambda: 1061.0)
    assert workers.dead() == ["far"]
    assert not workers.heartbeat("far"), "it learns that others have its jobs"
    workers.forget()
    assert workers.dead() == ["far"], "kept until everything of it was handed over"
    monkeypatch.setattr(workers_module.time, "time", lambda: 1000.0 + 3601)
    workers.forget()
    assert workers.dead() == []


def test_a_worker_that_was_heard_in_the_last_moment_lives(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells of itself between the look at its line and the verdict."""
    workers = WorkerStore(shop.database)
    workers.register("me")

    def is_alive(_mark: str) -> bool:
        with shop.database.begin() as connection:
            connection.execute(update(job_workers).values(seen_at=5.0))
        return False

    monkeypatch.setattr(workers_module, "is_alive", is_alive)
    assert workers.dead() == []
    assert workers.heartbeat("me")


def test_a_machine_is_told_from_others_by_its_boot() -> None:
    boot, namespace = machine().split(":")
    assert len(boot) == 36
    assert namespace in os.readlink("/proc/self/ns/pid")
