"""Reads files of prompts, row by row: .jsonl, .jsonl.gz, .txt, .txt.gz.

A row that cannot be used is handed on as `Skipped`, with its line; only a file that is unusable
as a whole raises. Memory does not grow with the rows, but for a small hash of each to tell
duplicates apart. Start from `iter_prompts(path)`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cai.dataset.conversations import ParsedPrompt, UnusableRow, parse_record, parse_text
from cai.dataset.hashes import HashTable
from cai.dataset.lines import BadLine, Line, iter_lines
from cai.errors import PromptError
from cai.files import canonical_json, digest_file
from cai.types import Conversation

ENDINGS = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz")


class PromptRow(NamedTuple):
    """One input. `occurrence` is 2 for the first duplicate of a prompt, and so on.

    `source_id` is the record's own `id`, where it has one.
    """

    input_id: str
    messages: Conversation
    line: int
    occurrence: int = 1
    source_id: str | int | None = None
    note: str | None = None


class Skipped(NamedTuple):
    """An input that cannot be used. `input_id` is made from its place in the file."""

    input_id: str
    line: int
    reason: str
    detail: str


class PromptFile(NamedTuple):
    """What a run needs to know of its prompt file beforehand."""

    path: Path
    digest: str
    num_inputs: int


def survey_prompts(path: Path, *, limit: int | None = None) -> PromptFile:
    """Digest and number of inputs. Raises PromptError for a file that is unusable as a whole."""
    _check_ending(path)
    num_inputs = 0
    for _line in iter_lines(path):
        num_inputs += 1
        if num_inputs == limit:
            break
    if num_inputs == 0:
        raise PromptError(f"{path}: there is no prompt in the file")
    return PromptFile(path, digest_file(path), num_inputs)


def iter_prompts(path: Path, *, limit: int | None = None) -> Iterator[PromptRow | Skipped]:
    """Inputs in the file's order, the same ids at every reading. Blank lines are no inputs."""
    _check_ending(path)
    is_text = path.name.removesuffix(".gz").endswith(".txt")
    seen = HashTable()
    for index, line in enumerate(iter_lines(path)):
        if index == limit:
            return
        try:
            yield _read_row(line, is_text, seen)
        except UnusableRow as exc:
            yield Skipped(_place_id(line.number), line.number, exc.reason, exc.detail)


def _check_ending(path: Path) -> None:
    if path.is_dir():
        raise PromptError(f"{path}: is a folder; name a {', '.join(ENDINGS[:-1])} file")
    if not path.name.endswith(ENDINGS):
        raise PromptError(f"{path}: not a file of prompts; they end in {', '.join(ENDINGS)}")


def _read_row(line: Line | BadLine, is_text: bool, seen: HashTable) -> PromptRow:
    if isinstance(line, BadLine):
        raise UnusableRow(line.reason, line.detail)
    text = _decode(line.data)
    source_id: str | int | None = None
    if is_text:
        parsed = parse_text(text)
    else:
        parsed, source_id = _parse_json(text)
    canonical = canonical_json([message.as_dict() for message in parsed.messages]).encode()
    digest = hashlib.sha256(canonical)
    occurrence = seen.add(digest.digest()[:16])
    if occurrence > 1:
        digest.update(b"\n%d" % occurrence)
    input_id = "sha256:" + digest.hexdigest()
    return PromptRow(input_id, parsed.messages, line.number, occurrence, source_id, parsed.note)


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise UnusableRow(
            "invalid-utf8", f"byte {exc.start + 1} of the line: {exc.reason}"
        ) from None


def _parse_json(text: str) -> tuple[ParsedPrompt, str | int | None]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as exc:
        raise UnusableRow("invalid-json", f"column {exc.colno}: {exc.msg}") from None
    except (ValueError, RecursionError) as exc:
        raise UnusableRow("invalid-json", type(exc).__name__) from None
    parsed = parse_record(record)
    source_id = record.get("id")
    if isinstance(source_id, bool) or not isinstance(source_id, str | int):
        source_id = None
    return parsed, source_id


def _place_id(number: int) -> str:
    return "sha256:" + hashlib.sha256(b"line %d" % number).hexdigest()
