"""Workers are killed at any moment: every job ends once, whole, and leaves nothing running."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.jobs.helpers import OVER, Workshop, processes_of, wait_until
from tests.postgres import postgres


def check_ended_once(shop: Workshop, ids: list[str], *, num_prompts: int) -> None:
    """Each job succeeded, said so once, and has each input in its run once."""
    for id in ids:
        record = shop.get(id)
        assert record.state == "succeeded", (record, shop.said())
        types = Counter(shop.types(id))
        assert types["submitted"] == types["succeeded"] == 1, types
        assert types["retrying"] == types["failed"] == 0, types  # no attempt met another's
        run = shop.home / "runs" / id
        ended = [
            json.loads(line)["input_id"]
            for name in ("rows.jsonl", "rejected.jsonl")
            for line in (run / name).read_text().splitlines()
        ]
        assert sorted(Counter(ended).values()) == [1] * num_prompts, id
        assert (run / "DONE").exists()
        assert processes_of(id) == []


def test_the_job_of_a_killed_worker_goes_on_in_another_where_it_was(tmp_path: Path) -> None:
    with Workshop(tmp_path, delay_s=0.05) as shop:
        id = shop.submit(12, params={"concurrency": 1}).id
        transcripts = shop.home / "runs" / id / "transcripts.jsonl"
        with shop.worker() as first, shop.worker():
            wait_until(lambda: transcripts.exists() and transcripts.read_bytes().count(b"\n") >= 2)
            owner = shop.get(id).worker
            assert owner is not None
            if str(first.pid) not in owner:  # the other one has it
                os.kill(int(owner.split("-")[1]), signal.SIGKILL)
            else:
                first.kill()
            done = transcripts.read_bytes()
            wait_until(lambda: not processes_of(id), limit_s=2.0)
            wait_until(lambda: shop.get(id).state in OVER)
        check_ended_once(shop, [id], num_prompts=12)
        assert transcripts.read_bytes().startswith(done.rpartition(b"\n")[0])
        assert shop.get(id).attempts == 2
        assert shop.get(id).worker != owner


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_workers_killed_at_random_do_twelve_jobs_once(tmp_path: Path, kind: str) -> None:
    if kind == "postgres":
        # Not below pytest's folder, which other sessions close to the server's user.
        with TemporaryDirectory() as folder, postgres(Path(folder)) as url:
            do_twelve(tmp_path, url=url)
    else:
        do_twelve(tmp_path)


def do_twelve(folder: Path, *, url: str | None = None, num_kills: int = 8) -> None:
    with Workshop(folder / "shop", delay_s=0.02, database=url, job_attempts=20) as shop:
        ids = [shop.submit(8, params={"concurrency": 1, "seed": i}).id for i in range(12)]
        chance = random.Random(7)
        workers = [shop.start_worker(), shop.start_worker()]
        try:
            for _ in range(num_kills):
                time.sleep(chance.uniform(1.5, 4.0))
                victim = chance.randrange(2)
                workers[victim].kill()
                workers[victim].wait()
                workers[victim] = shop.start_worker()
            wait_until(lambda: shop.jobs.store.num_active() == 0, limit_s=120.0, what=shop.said)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        check_ended_once(shop, ids, num_prompts=8)
        attempts = [shop.get(id).attempts for id in ids]
        assert sum(attempts) <= len(ids) + num_kills
