"""Reads what trainers learn from: run directories of `cai data`, and .jsonl files of any origin.

Everything wrong with a row is an error with its file and line before training starts. Light.
Start from `load_pairs`, `load_demonstrations`, `load_rankings` or `load_prompts`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cai.dataset.conversations import UnusableRow, check_text, parse_record, read_messages
from cai.dataset.human import pairs_of_ranking
from cai.dataset.importers.pairs import parse_trl
from cai.dataset.lines import BadLine, iter_lines
from cai.dataset.preferences import check_row
from cai.dataset.prompts import ENDINGS, Skipped, iter_prompts
from cai.dataset.records import DONE, ROWS, TRANSCRIPTS
from cai.errors import DataError, PromptError
from cai.feedback.labels import sigmoid
from cai.files import digest_file, digest_json, read_jsonl
from cai.policy.manifest import DataSource
from cai.train.config import Use
from cai.train.rows import Answer, Asked, Demonstration, Loaded, Pair, answer_text, counted
from cai.types import Conversation, Message, conversation

__all__ = [
    *("Asked", "Demonstration", "Loaded", "Pair"),
    *("load_demonstrations", "load_pairs", "load_prompts", "load_rankings"),
]

_LARGEST = sys.float_info.max

RowT = TypeVar("RowT")
Record = Mapping[str, Any]


class _Line(NamedTuple):
    place: str
    record: Any


def load_pairs(paths: Sequence[Path]) -> Loaded[Pair]:
    """Preference rows of runs and files, TRL's preference form, and rankings as all their pairs.

    TRL's pairs may have what `cai data export` writes: `p_chosen`, or its log-odds as `margin`,
    and `weight`. Without a label the chosen answer is the better one for certain.

    Raises DataError for an empty file, for a label that is no probability, and for a row whose
    answers are the same or empty.
    """
    return _load(paths, _pairs, lambda run: run / ROWS, "pairs")


def load_rankings(paths: Sequence[Path]) -> Loaded[Pair]:
    """All pairs of `{prompt, outputs, ranking: "B > A = C"}` lines, ranks of 2 to 9 answers."""
    return _load(paths, _ranking, lambda run: run / ROWS, "rankings")


def load_demonstrations(paths: Sequence[Path], use: Use = "auto") -> Loaded[Demonstration]:
    """What is to be imitated; `SftConfig.use` says what each choice takes from the data."""

    def read(line: _Line, loaded: Loaded[Demonstration]) -> Iterator[Demonstration]:
        yield from _demonstrations(line, use, loaded)

    def file_of(run: Path) -> Path:
        if use == "chosen":
            return run / ROWS
        return next((run / n for n in (TRANSCRIPTS, ROWS) if (run / n).exists()), run / TRANSCRIPTS)

    return _load(paths, read, file_of, f"demonstrations (use: {use})")


def load_prompts(paths: Sequence[Path]) -> Loaded[Asked]:
    """Prompts alone, each once: of runs, and of prompt files as `cai data generate` reads them."""

    def file_of(run: Path) -> Path:
        return next((run / n for n in (TRANSCRIPTS, ROWS) if (run / n).exists()), run / TRANSCRIPTS)

    loaded = _load(paths, _asked, file_of, "prompts", files=_prompt_file)
    once = {digest_json([m.as_dict() for m in row.prompt]): row for row in reversed(loaded.rows)}
    loaded.left_out["repeated-prompt"] = len(loaded.rows) - len(once)
    loaded.rows = [row for row in loaded.rows if once.get(row.id) is row]
    return loaded


def _load(
    paths: Sequence[Path],
    read: Callable[[_Line, Loaded[RowT]], Iterator[RowT]],
    file_of: Callable[[Path], Path],
    what: str,
    files: Callable[[Path], Iterator[_Line]] | None = None,
) -> Loaded[RowT]:
    loaded: Loaded[RowT] = Loaded()
    for path in paths:
        file = _run_file(path, file_of) if path.is_dir() else path
        before = len(loaded.rows)
        lines = _run_lines(file) if path.is_dir() else (files or _file_lines)(file)
        for line in lines:
            try:
                loaded.rows += read(line, loaded)
            except UnusableRow as exc:
                raise DataError(f"{line.place}: {exc.detail}; correct or remove the row") from None
            _note_constitution(line.record, loaded.constitutions)
        number = len(loaded.rows) - before
        if not number:
            reasons = counted(loaded.left_out)
            raise DataError(f"{path}: holds no {what}{f' ({reasons})' if reasons else ''}")
        name = f"{path.resolve().name}/{file.name}" if path.is_dir() else path.name
        source = DataSource(name=name, digest=digest_file(file), num_rows=number)
        loaded.sources = (*loaded.sources, source)
    return loaded


def _run_file(run: Path, file_of: Callable[[Path], Path]) -> Path:
    if not (run / DONE).exists():
        raise DataError(
            f"{run}: no finished run ({DONE} is missing); finish it by the command that made it"
        )
    file = file_of(run)
    if not file.exists():
        way_out = "; give the run a judge" if file.name == ROWS else ""
        raise DataError(f"{run}: the run has no {file.name}{way_out}")
    return file


def _run_lines(file: Path) -> Iterator[_Line]:
    for number, record in enumerate(read_jsonl(file), start=1):
        yield _Line(f"{file}:{number}", record)


def _file_lines(file: Path) -> Iterator[_Line]:
    """Lines of a file that anyone may have written."""
    if not file.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{file}: not a run directory nor a .jsonl file")
    try:
        for line in iter_lines(file):
            place = f"{file}:{line.number}"
            if isinstance(line, BadLine):
                raise DataError(f"{place}: {line.detail}")
            try:
                yield _Line(place, json.loads(line.data))
            except (ValueError, RecursionError) as exc:
                raise DataError(f"{place}: not valid JSON: {exc}") from None
    except PromptError as exc:  # the file as a whole
        raise DataError(exc.message) from None


def _prompt_file(file: Path) -> Iterator[_Line]:
    if not file.name.endswith(ENDINGS):
        raise DataError(f"{file}: not a run directory nor a file of prompts: {', '.join(ENDINGS)}")
    try:
        for row in iter_prompts(file):
            if isinstance(row, Skipped):
                raise DataError(f"{file}:{row.line}: {row.detail}; correct or remove the row")
            yield _Line(f"{file}:{row.line}", {"prompt": [m.as_dict() for m in row.messages]})
    except PromptError as exc:
        raise DataError(exc.message) from None


def _pairs(line: _Line, _: Loaded[Pair]) -> Iterator[Pair]:
    record = _object(line.record)
    if "ranking" in record and "outputs" in record:
        yield from _ranking(line, _)
    elif record.get("format") is not None:
        yield _pair_of(line.place, check_row(record))
    else:
        label = {"p_chosen": _p_chosen(record), "weight": _weight(record)}
        for one in parse_trl(record):
            yield _pair(line.place, one.prompt, one.chosen, one.rejected, label)


def _ranking(line: _Line, _: Loaded[Pair]) -> Iterator[Pair]:
    record = _object(line.record)
    if "ranking" not in record or "outputs" not in record:
        raise UnusableRow("no-ranking", "expected 'prompt', 'outputs' and 'ranking'")
    for row in pairs_of_ranking(record):
        yield _pair_of(line.place, row)


def _pair_of(place: str, row: Record) -> Pair:
    prompt, chosen, rejected = (conversation(row[n]) for n in ("prompt", "chosen", "rejected"))
    return _pair(place, prompt, chosen, rejected, row)


def _pair(
    place: str, prompt: Conversation, chosen: Conversation, rejected: Conversation, row: Record
) -> Pair:
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if answer[-1].role != "assistant":
            raise UnusableRow("no-answer", f"'{name}' does not end with the assistant's turn")
        if not answer[-1].content.strip():
            raise UnusableRow("empty-answer", f"'{name}' is empty")
    if chosen == rejected:
        raise UnusableRow("same-answers", "'chosen' equals 'rejected', which teaches nothing")
    given = [[m.as_dict() for m in part] for part in (prompt, chosen, rejected)]
    return Pair(
        id=row.get("id") or digest_json(given),
        prompt=prompt,
        chosen=_simple(chosen),
        rejected=_simple(rejected),
        p_chosen=float(row.get("p_chosen", 1.0)),
        weight=float(row.get("weight", 1.0)),
        constitution=(row.get("constitution") or {}).get("digest"),
        place=place,
    )


def _demonstrations(
    line: _Line, use: Use, loaded: Loaded[Demonstration]
) -> Iterator[Demonstration]:
    record = _object(line.record)
    if "messages" in record:
        if use not in ("auto", "messages"):
            raise UnusableRow("other-shape", f"has 'messages', which use: {use} does not take")
        yield _dialogue(line.place, record)
    elif "steps" in record and "draft" in record:
        yield from _of_transcript(line.place, record, use, loaded)
    elif "completion" in record:
        yield from _completion(line.place, record, loaded)
    elif "chosen" in record:
        if use not in ("auto", "chosen"):
            raise UnusableRow(
                "other-shape", "is a pair; imitate its better answer with use: chosen"
            )
        pair = next(_pairs(line, Loaded()))
        is_first = pair.p_chosen >= 0.5
        better = pair.chosen if is_first else pair.rejected
        yield _imitated(line.place, pair.prompt, better, pair.weight)
    else:
        raise UnusableRow(
            "unknown-shape",
            "expected 'messages', 'prompt' with 'completion', a pair or a transcript",
        )


def _completion(
    place: str, record: Record, loaded: Loaded[Demonstration]
) -> Iterator[Demonstration]:
    """TRL's answer to a prompt; its unpaired form labels the worse answer of a pair false."""
    is_good = record.get("label", True)
    if not isinstance(is_good, bool):
        raise UnusableRow("bad-label", "'label' should be true or false: whether to imitate it")
    if not is_good:
        loaded.left_out["rejected-answer"] += 1
        return
    prompt, answer = parse_record(record).messages, record["completion"]
    yield _imitated(place, prompt, _said(answer, "completion"), _weight(record))


def _of_transcript(
    place: str, record: Record, use: Use, loaded: Loaded[Demonstration]
) -> Iterator[Demonstration]:
    prompt = conversation(record["prompt"])
    revisions = [
        step["revision"]
        for step in record["steps"]
        if step.get("status", "revised") == "revised" and step.get("revision")
    ]
    if use == "answers":
        wanted = [record.get("answer") or record["draft"]]
    elif use == "auto" and not revisions and _stands(record["steps"]):
        wanted = [record["draft"]]
    elif use in ("auto", "revisions", "last-revision"):
        wanted = revisions[-1:] if use == "last-revision" else list(dict.fromkeys(revisions))
    else:
        raise UnusableRow("other-shape", f"is a transcript, which use: {use} does not take")
    if not wanted:
        loaded.left_out["no-revision"] += 1
    for text in wanted:
        yield _imitated(place, prompt, text, 1.0)


def _stands(steps: Sequence[Record]) -> bool:
    """Whether a critique looked at the draft and found nothing to change."""
    return bool(steps) and steps[-1].get("status") == "no_change"


def _dialogue(place: str, record: Record) -> Demonstration:
    messages = read_messages(record["messages"], "messages")
    check_text(messages)
    while messages and messages[-1].role != "assistant":
        messages = messages[:-1]
    if not messages or messages[0].role == "assistant":
        raise UnusableRow("no-answer", "'messages' has no turn of the assistant's after another's")
    if any(m.role == "assistant" and not m.content.strip() for m in messages):
        raise UnusableRow("empty-answer", "a turn of the assistant's is empty")
    known_as = digest_json([m.as_dict() for m in messages])
    return Demonstration(known_as, messages, 0, _weight(record), place)


def _imitated(place: str, prompt: Conversation, answer: Answer, weight: float) -> Demonstration:
    if not answer_text(answer).strip():
        raise UnusableRow("empty-answer", "the answer to imitate is empty")
    said = (Message("assistant", answer),) if isinstance(answer, str) else answer
    messages = (*prompt, *said)
    known_as = digest_json([m.as_dict() for m in messages])
    return Demonstration(known_as, messages, len(prompt), weight, place)


def _asked(line: _Line, _: Loaded[Asked]) -> Iterator[Asked]:
    prompt = parse_record(_object(line.record)).messages
    yield Asked(digest_json([m.as_dict() for m in prompt]), prompt, line.place)


def _note_constitution(record: Any, known: dict[str, str]) -> None:
    """Keep the digest by reference; a draft that changed on the way is kept under both."""
    found = record.get("constitution") if isinstance(record, Mapping) else None
    if isinstance(found, Mapping) and found.get("ref") and found.get("digest"):
        ref, digest = str(found["ref"]), str(found["digest"])
        if known.setdefault(ref, digest) != digest:
            known[f"{ref}#{digest.removeprefix('sha256:')[:8]}"] = digest


def _simple(answer: Conversation) -> Answer:
    return answer[0].content if len(answer) == 1 else answer


def _said(value: Any, field: str) -> Answer:
    if isinstance(value, str):
        return value
    messages = read_messages(value, field)
    if messages[-1].role != "assistant":
        raise UnusableRow("no-answer", f"'{field}' does not end with the assistant's turn")
    return _simple(messages)


def _p_chosen(record: Record) -> float:
    """The label of a pair in TRL's form: `p_chosen`, else its log-odds `margin`, else certain."""
    p_chosen, margin = record.get("p_chosen"), record.get("margin")
    if p_chosen is not None:
        if not _is_within(p_chosen, 0, 1):
            raise UnusableRow("bad-label", "'p_chosen' should be a number from 0 to 1")
        return float(p_chosen)
    if margin is None:
        return 1.0
    if not _is_within(margin, -_LARGEST, _LARGEST):
        raise UnusableRow(
            "bad-label", "'margin' should be a number, the log-odds that 'chosen' is better"
        )
    return sigmoid(margin)


def _weight(record: Record) -> float:
    weight = record.get("weight", 1.0)
    if not _is_within(weight, 0, _LARGEST):
        raise UnusableRow("bad-weight", "'weight' should be a number, 0 or more")
    return float(weight)


def _is_within(value: Any, low: float, high: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and low <= value <= high


def _object(record: Any) -> Record:
    if not isinstance(record, dict):
        raise UnusableRow("not-an-object", "expected a JSON object")
    return record
