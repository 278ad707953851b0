"""`cai worker` as a process: what it does with jobs, with signals, and with a lost lease."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sqlalchemy import update

from cai.tables import job_workers
from tests.jobs.helpers import OVER, Workshop, processes_of, wait_until


def transcripts(shop: Workshop, id: str) -> int:
    """How many inputs of a job's run are done."""
    path = shop.home / "runs" / id / "transcripts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_jobs_run_by_priority_and_end_with_their_result(tmp_path: Path) -> None:
    with Workshop(tmp_path) as shop:
        low, high = shop.submit(3, priority=10).id, shop.submit(3, priority=90).id
        wrong = shop.upload("{}", "prompts.json")
        bad = shop.submit(params={"prompts": wrong}).id
        with shop.worker("idle") as worker:
            assert worker.wait(timeout=40) == 0
        first, second = shop.get(high), shop.get(low)
        assert (first.state, second.state) == ("succeeded", "succeeded"), shop.said()
        assert first.ended_at is not None
        assert second.started_at is not None
        assert first.ended_at <= second.started_at
        assert first.result is not None
        assert first.result["counts"]["inputs"] == 3
        assert shop.jobs.place.files.path(first.result["files"]["transcripts.jsonl"]).exists()
        assert (first.progress.done, first.progress.total) == (3, 3)
        failed = shop.get(bad)
        assert (failed.state, failed.attempts) == ("failed", 1)
        assert failed.error is not None
        assert ".jsonl" in failed.error
        assert not failed.error.startswith("cai:")
        assert "Traceback" not in shop.said()


def test_a_cancelled_job_stops_whole_and_a_stopped_worker_leaves_its_job_to_the_next(
    tmp_path: Path,
) -> None:
    with Workshop(tmp_path, delay_s=0.05, worker_jobs=2) as shop:
        params = {"concurrency": 1}
        doomed, kept = shop.submit(200, params=params).id, shop.submit(10, params=params).id
        with shop.worker() as worker:
            wait_until(lambda: transcripts(shop, doomed) and transcripts(shop, kept))
            shop.jobs.store.cancel(doomed, actor="me")
            wait_until(lambda: shop.get(doomed).state == "cancelled", limit_s=8.0)
            assert processes_of(doomed) == []
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=10) == 0
        assert processes_of(kept) == []
        assert (shop.get(kept).state, shop.get(kept).attempts) == ("queued", 0)
        done = transcripts(shop, kept)
        with shop.worker("idle") as worker:
            assert worker.wait(timeout=40) == 0
        record = shop.get(kept)
        assert (record.state, record.attempts) == ("succeeded", 1)
        assert 0 < done < transcripts(shop, kept) == 10
        assert shop.types(kept) == ["submitted", "started", "released", "started", "succeeded"]
        assert shop.types(doomed)[-2:] == ["cancelling", "cancelled"]


@pytest.mark.slow
def test_a_worker_taken_for_dead_kills_its_child_and_ends(tmp_path: Path) -> None:
    """As one does whose machine was away for longer than its lease: another has its job by then."""
    with Workshop(tmp_path, delay_s=0.05) as shop:
        id = shop.submit(12, params={"concurrency": 1}).id
        with shop.worker() as lost:
            wait_until(lambda: transcripts(shop, id))
            with shop.database.begin() as connection:
                connection.execute(update(job_workers).values(has_ended=True))
            assert lost.wait(timeout=10) == 1
        assert processes_of(id) == []
        with shop.worker():
            wait_until(lambda: shop.get(id).state in OVER)
        assert (shop.get(id).state, shop.get(id).attempts) == ("succeeded", 2), shop.said()
