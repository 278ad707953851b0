"""Checks the locked sets without a network: exact versions, nothing unwanted, licences, no drift.

Run by `make lint`. Known vulnerabilities need a database from outside: `pip-audit` is run where it
is installed and can reach one, and said to be skipped elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
UNWANTED = {
    "torchvision": "a CUDA build on the index; breaks transformers beside a CPU torch",
    "torchaudio": "a CUDA build on the index; not needed",
    "torchcodec": "a CUDA build on the index; not needed",
    "krippendorff": "GPL",
    "arq": "unmaintained",
    "slowapi": "unmaintained",
}
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def main() -> int:
    """Print each problem; exit status 1 when there is one."""
    problems = [problem for lock in sorted(HERE.glob("*.txt")) for problem in check_lock(lock)]
    problems += check_installed()
    for problem in problems:
        sys.stdout.write(problem + "\n")
    scanner = shutil.which("pip-audit")
    if scanner is None:
        sys.stdout.write("audit of known vulnerabilities skipped: pip-audit is not installed\n")
    else:
        found = subprocess.run([scanner, "--local"], check=False).returncode
        problems += ["pip-audit found vulnerabilities"] if found else []
    return 1 if problems else 0


def read_lock(path: Path) -> dict[str, str]:
    """Names and versions of a lock; a line that is not `name==version` has an empty version."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {name: version for name, _, version in pairs}


def check_lock(path: Path) -> list[str]:
    """What is wrong in one lock file."""
    return [
        f"{path.name}: {name}: {UNWANTED.get(name, 'no exact version; write name==version')}"
        for name, version in read_lock(path).items()
        if name in UNWANTED or not re.fullmatch(r"[0-9][0-9A-Za-z.!]*", version)
    ]


def check_installed() -> list[str]:
    """Installed packages of the lock whose version differs, or whose licence is copyleft."""
    is_gpu = any(dist.name == "vllm" for dist in metadata.distributions())
    problems = []
    for name, version in read_lock(HERE / ("gpu.txt" if is_gpu else "cpu.txt")).items():
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} {version} is in the lock and not installed; run make setup")
            continue
        if dist.version.partition("+")[0] != version:
            problems.append(f"{name} is {dist.version}, the lock says {version}; run make setup")
        licence = dist.metadata.get("License-Expression") or ""
        if COPYLEFT.search(licence) and " OR " not in licence:
            problems.append(f"{name}: licence {licence}")
    return problems


if __name__ == "__main__":
    raise SystemExit(main())
