"""A place for jobs: a home, a constitution, an engine on a script, and workers as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cai.db import Database, open_database
from cai.jobs.child import MARK
from cai.jobs.jobs import Jobs
from cai.jobs.spec import JobEvent, JobRecord
from cai.settings import Settings
from tests.cli.runs import CONSTITUTION, SCRIPT
from tests.processes import ROOT

OVER = ("succeeded", "failed", "cancelled")


class Workshop:
    """Jobs below a folder. `engine` is an address that jobs may name, `delay_s` slow."""

    def __init__(
        self, folder: Path, *, delay_s: float = 0.0, database: str | None = None, **settings: Any
    ) -> None:
        (folder / "constitutions" / "t").mkdir(parents=True)
        (folder / "constitutions" / "t" / "draft.yaml").write_text(CONSTITUTION)
        (folder / "script.yaml").write_text(f"{SCRIPT}delay_s: {delay_s}\n")
        self.folder = folder
        self.engine = f"scripted:{folder / 'script.yaml'}"
        self.settings = Settings(
            home=folder / "var",
            constitutions=folder / "constitutions",
            job_engines=(self.engine,),
            database_url=database,
            **settings,
        )
        self.database: Database = open_database(self.settings)
        self.jobs = Jobs(self.settings, self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.jobs.close()
        self.database.close()

    @property
    def home(self) -> Path:
        return self.settings.home

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a process that works here."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CAI_")}
        here = {
            "CAI_HOME": str(self.home),
            "CAI_CONSTITUTIONS": str(self.settings.constitutions),
            "CAI_JOB_ENGINES": f'["{self.engine}"]',
            "CAI_JOB_ATTEMPTS": str(self.settings.job_attempts),
            "CAI_WORKER_JOBS": str(self.settings.worker_jobs),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        if self.settings.database_url is not None:
            here["CAI_DATABASE_URL"] = self.settings.database_url
        return {**kept, **here, **more}

    def upload(self, text: str, name: str = "prompts.txt") -> str:
        """The id of an uploaded file."""
        with self.jobs.place.files.begin(name, purpose="prompts", actor="test") as upload:
            upload.write(text.encode())
            return upload.finish().id

    def dataset(self, num_prompts: int = 3, **raw: Any) -> dict[str, Any]:
        """The request of a dataset job on the script; `params` are added to its own."""
        prompts = self.upload("".join(f"prompt {i}\n" for i in range(num_prompts)))
        params = {"prompts": prompts, "constitution": "t@draft", "engine": self.engine}
        return {"kind": "dataset", **raw, "params": {**params, **raw.get("params", {})}}

    def submit(self, num_prompts: int = 3, **raw: Any) -> JobRecord:
        """A dataset job that was queued."""
        return self.jobs.submit(self.dataset(num_prompts, **raw), actor="test")

    def get(self, id: str) -> JobRecord:
        return self.jobs.store.get(id)

    def events(self, id: str) -> list[JobEvent]:
        return self.jobs.store.events(id)

    def types(self, id: str) -> list[str]:
        """The events of a job but for its progress."""
        return [event.type for event in self.events(id) if event.type != "progress"]

    @contextmanager
    def worker(self, *args: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker in a process of its own; killed in the end."""
        process = self.start_worker(*args, **env)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def start_worker(self, *args: str, **env: str) -> subprocess.Popen[bytes]:
        with (self.folder / "worker.err").open("ab") as err:
            return subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.jobs.working", *args],
                stdout=subprocess.DEVNULL,
                stderr=err,
                cwd=ROOT,
                env=self.env(**env),
            )

    def said(self) -> str:
        """What the workers said on stderr."""
        return (self.folder / "worker.err").read_text()


def wait_until(condition: Callable[[], Any], *, limit_s: float = 30.0, what: object = "") -> None:
    """Until `condition()` holds; fails after `limit_s`."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def processes_of(job: str) -> list[int]:
    """Processes that carry the job's mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            marked = f"{MARK}={job}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found
