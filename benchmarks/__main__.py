"""`make bench`: every benchmark, or those named, one after the other."""

from __future__ import annotations

import platform
import subprocess
import sys
import time

NAMES = (
    "generate",
    "serve",
    "revision",
    "judge_accuracy",
    "label",
    "judge_speed",
    "attacks",
    "overhead",
    "kills",
    "fuzz_yaml",
    "demo_seeds",
    "soft_labels",
    "ppo_speed",
    "reloads",
    "service_kills",
    "gpu_updates",
    "ab_errors",
    "suites_oracle",
)


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise SystemExit(f"no benchmark {unknown[0]}; there are: {', '.join(NAMES)}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(
        f"commit {commit or 'unknown'}, {platform.platform()}, Python {platform.python_version()}"
    )
    for name in names or NAMES:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        # A process each, so that none leaves an engine or settings to the next.
        code = f"import benchmarks.{name} as b; b.main()"
        failed = subprocess.run([sys.executable, "-c", code], check=False).returncode
        print(f"== {name} {'failed' if failed else 'done'} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
