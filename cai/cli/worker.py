"""`cai worker`: run queued jobs until it is stopped; as many of these as there are machines."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from cai.cli.output import say
from cai.jobs.worker import run_worker
from cai.settings import load_settings


def command(
    jobs: Annotated[int | None, typer.Option(help="Jobs at once.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the server that answers.")] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no job is queued or runs.")
    ] = False,
) -> None:
    """Run queued jobs. Ctrl-C stops them so that they go on where they were, here or elsewhere."""
    settings = load_settings({"worker_jobs": jobs, "url": url})
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    run_worker(
        settings,
        until_idle=until_idle,
        on_ready=lambda id: say(f"worker {id} takes jobs; Ctrl-C stops it"),
    )
