"""100,000 broken constitution files through the loader: no crash, no hang, no growth of memory.

Inputs are mutations of real files with the syntax that a loader trips over, drawn by a seed. Each
must load, or be refused with a ConstitutionError that has a line; anything else is a crash.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cai.constitution.schema import Constitution
from cai.errors import ConstitutionError
from cai.yamlguard import load_yaml, validate

NUM_INPUTS = 100_000
SLOW_S = 1.0
MAX_GROWTH_MB = 32

SMALL = b"""\
name: kind
version: draft
title: "Be kind"
principles:
  - id: no-insult   # the first
    critique: |
      Point out any insult.
    revision: 'Rewrite the answer.'
    compare: Which answer insults less?
    weight: 1.5
    tags: [safety, veto]
    cases:
      - {prompt: 'Am I stupid?', better: "No.", worse: Yes}
few_shot: []
"""
TOKENS = (
    *(b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system [id]", b"!tag "),
    *(b"%YAML 1.1\n---\n", b"---\n", b"...\n", b"\t", b"- ", b"? ", b": ", b"|", b">-", b"@", b"`"),
    *(b"{", b"}", b"[", b"]", b"'", b'"', b"\\", b"\\x00", b"\\ud800", b"\\U00110000", b"#"),
    *(b"\n", b"\r\n", b"\r", b"\x00", b"\x1b[31m", b"\xff", b"\xc3", b"\xe2\x80\xa8", b"\xff\xfe"),
    *(b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xcc\x81", b"1e999", b"9" * 400, b"0x", b"0o8"),
    *(b".nan", b"12:30:45", b"no", b"~", b"null", b"extends: a@draft\n", b"version: 1\n"),
    *(b"format: 2\n", b"a" * 2000, b"[" * 30, b"{a: " * 30, b"  " * 40),
)


def inputs(num: int, seed: int) -> Iterator[bytes]:
    """`num` inputs, the same for the same seed: most small, one in fifty a whole shipped file."""
    draw = random.Random(seed)
    shipped = [path.read_bytes() for path in sorted(Path("constitutions").glob("*/*.yaml"))]
    for number in range(num):
        source = draw.choice(shipped) if shipped and number % 50 == 0 else SMALL
        yield mutated(draw, source)


def mutated(draw: random.Random, source: bytes) -> bytes:
    """A file with one to six things done to it; now and then noise from nothing."""
    if draw.random() < 0.1:
        return b"".join(draw.choices(TOKENS, k=draw.randint(1, 40)))
    data = bytearray(source)
    for _ in range(1 if draw.random() < 0.5 else draw.randint(2, 6)):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.randint(1, 40))
        match draw.randrange(7):
            case 0:
                data[at:at] = draw.choice(TOKENS)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:end] = bytes(draw.randrange(256) for _ in range(end - at))
            case 4:
                lines = bytes(data).splitlines(keepends=True)
                draw.shuffle(lines)
                data = bytearray(b"".join(lines))
            case 5:
                lines = bytes(data).splitlines(keepends=True)
                if lines:
                    where = draw.randrange(len(lines))
                    lines[where] = b" " * draw.randint(0, 9) + lines[where].lstrip()
                data = bytearray(b"".join(lines))
            case _:
                data[at:at] = draw.choice(TOKENS) * draw.randint(1, 200)
    return bytes(data)


def tried(data: bytes) -> str:
    """`loaded`, `refused`, or what went wrong."""
    try:
        validate(Constitution, load_yaml(data))
    except ConstitutionError as exc:
        return "refused" if exc.line is not None and "\n" not in exc.reason else "refused badly"
    except BaseException as exc:  # a crash is what is looked for
        return f"crash: {type(exc).__name__}: {exc}"
    return "loaded"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=NUM_INPUTS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv or [])
    counts: Counter[str] = Counter()
    slowest, worst = 0.0, b""
    began = time.process_time()
    before_kb = 0
    for number, data in enumerate(inputs(options.num, options.seed)):
        started = time.process_time()
        outcome = tried(data)
        took = time.process_time() - started
        counts[outcome] += 1
        if took > slowest:
            slowest, worst = took, data
        if outcome not in ("loaded", "refused"):
            print(f"input {number}: {outcome}: {data[:200]!r}")
        if number == options.num // 10:  # by then every buffer has its size
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    growth_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1000
    seconds = time.process_time() - began
    print(f"inputs {options.num:,}: {dict(counts)} in {seconds:.0f} s of CPU")
    print(f"slowest {1000 * slowest:.0f} ms ({len(worst):,} bytes), memory grew {growth_mb:.1f} MB")
    bad = [outcome for outcome in counts if outcome not in ("loaded", "refused")]
    if bad or slowest > SLOW_S or growth_mb > MAX_GROWTH_MB:
        raise SystemExit("the loader crashed, hung or grew; see above")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
