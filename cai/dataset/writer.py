"""Appends to one run directory, so that a kill at any moment loses only inputs that are owed again.

Lines are gathered and written in one call per file: first an input's pairs, then its transcript,
then rejections. So a whole transcript vouches for the pairs before it, and `resume` cuts what no
later line vouches for. `DONE` is written last. Start from `RunWriter(folder, counts)`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.dataset.records import (
    DONE,
    FORMAT,
    MANIFEST,
    REJECTED,
    ROWS,
    TRANSCRIPTS,
    Counts,
    encode_row,
)
from cai.errors import DataError
from cai.files import replace_json, replace_text

_FLUSH_BYTES = 1 << 18


class RunWriter:
    """The one writer of a run directory; `counts` follows what was handed to it.

    Nothing is on disk before `flush`, which the caller calls now and then; a full buffer flushes
    itself. After a failed write every later call does nothing: the run goes on in a new process.
    """

    def __init__(self, folder: Path, counts: Counts) -> None:
        self.folder = folder
        self.counts = counts
        self._rows = _Appender(folder / ROWS)
        self._transcripts = _Appender(folder / TRANSCRIPTS)
        self._rejected = _Appender(folder / REJECTED)
        self._failed = False

    def keep(self, transcript: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]] = ()) -> None:
        """Account for an input as kept, with its transcript and its pairs."""
        for pair in pairs:
            self._rows.add(encode_row(pair))
        self._transcripts.add(encode_row(transcript))
        self.counts.add_transcript(transcript)
        self.counts.pairs += len(pairs)
        self._flush_if_full()

    def keep_pairs(self, pairs: Sequence[Mapping[str, Any]]) -> None:
        """Account for a record as kept by its pairs alone, where nothing here was generated."""
        for pair in pairs:
            self._rows.add(encode_row(pair))
        self.counts.kept += 1
        self.counts.pairs += len(pairs)
        self._flush_if_full()

    def reject(
        self, rejected: Mapping[str, Any], transcript: Mapping[str, Any] | None = None
    ) -> None:
        """Account for an input as rejected; the transcript of one that had come so far stays."""
        if transcript is not None:
            self._transcripts.add(encode_row(transcript))
            self.counts.add_cost(transcript)
        self._rejected.add(encode_row(rejected))
        self.counts.rejected[rejected["reason"]] += 1
        self._flush_if_full()

    def flush(self) -> None:
        """Write what was gathered. Raises DataError when the disk does not take it."""
        if self._failed:
            return
        try:
            for appender in (self._rows, self._transcripts, self._rejected):
                appender.write()
        except OSError as exc:
            self._failed = True
            raise _write_error(exc, self.folder) from exc

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest as a whole."""
        try:
            replace_json(self.folder / MANIFEST, manifest)
        except OSError as exc:
            self._failed = True
            raise _write_error(exc, self.folder) from exc

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Make everything durable, then say so: manifest first, `DONE` last."""
        self.flush()
        try:
            for appender in (self._rows, self._transcripts, self._rejected):
                appender.sync()
        except OSError as exc:
            self._failed = True
            raise _write_error(exc, self.folder) from exc
        self.write_manifest(manifest)
        try:
            replace_json(self.folder / DONE, {"format": FORMAT, **self.counts.as_dict()})
        except OSError as exc:
            raise _write_error(exc, self.folder) from exc

    def close(self) -> None:
        """Write what is left and close the files. Repeated calls do nothing."""
        try:
            self.flush()
        finally:
            for appender in (self._rows, self._transcripts, self._rejected):
                appender.close()

    def _flush_if_full(self) -> None:
        if self._rows.size + self._transcripts.size + self._rejected.size > _FLUSH_BYTES:
            self.flush()


class _Appender:
    """One file, opened at its first write, appended to in whole batches of lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._pending: list[bytes] = []
        self.size = 0

    def add(self, line: bytes) -> None:
        self._pending.append(line)
        self.size += len(line)

    def write(self) -> None:
        if not self._pending:
            return
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        batch, self._pending, self.size = b"".join(self._pending), [], 0
        end = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(batch):
                written += os.write(self._descriptor, batch[written:] if written else batch)
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, end)
            exc.filename = str(self._path)
            raise

    def sync(self) -> None:
        if self._descriptor >= 0:
            os.fsync(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a file of the run directory. Raises DataError when the disk does not take it."""
    try:
        replace_text(path, text)
    except OSError as exc:
        raise _write_error(exc, path.parent) from exc


def _write_error(exc: OSError, folder: Path) -> DataError:
    return DataError(
        f"{exc.filename or folder}: cannot be written: {exc.strerror}; what was written before "
        "is whole: make room and run the same command again to go on"
    )
