"""A script: `cai worker` with a quicker pulse, until it is stopped or, with `idle`, out of work."""

from __future__ import annotations

import sys

from cai.jobs.worker import run_worker
from cai.settings import load_settings
from tests.processes import tell

if __name__ == "__main__":
    run_worker(
        load_settings(),
        until_idle="idle" in sys.argv,
        on_ready=tell,
        beat_s=0.2,
        poll_s=0.2,
        back_off_s=0.1,
    )
