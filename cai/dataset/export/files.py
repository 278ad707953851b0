"""Files of an export: records in, whole files out. What was there before stays until the end.

A single file is replaced at `commit`; a folder is made beside its place and moved there.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from cai.dataset.export.options import FileType
from cai.dataset.parquet import ParquetWriter
from cai.dataset.records import encode_row
from cai.errors import CaiError, ConflictError, DataError

FILE_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


class RecordWriter(Protocol):
    """Where records go."""

    def write(self, record: Mapping[str, Any], /) -> None:
        """Add a record."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class JsonlWriter:
    """JSON lines, compressed when the name says so, the same bytes for the same records."""

    def __init__(self, path: Path, *, is_gzip: bool = False) -> None:
        self._raw = path.open("wb")
        self._file: BinaryIO = self._raw
        if is_gzip:
            self._file = cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0))

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""
        self._file.write(encode_row(record))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()
        self._raw.close()


class SingleFile:
    """An export into one file, by its ending. Splits are all the same file."""

    def __init__(self, path: Path) -> None:
        if not path.name.endswith(FILE_ENDINGS):
            raise DataError(f"{path}: an export into a file ends in {', '.join(FILE_ENDINGS)}")
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._writer: RecordWriter | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    def writer(self, _split: str) -> RecordWriter:
        """Where records of any split go."""
        if self._writer is None:
            self._writer = _open_writer(self._temporary, self._path.name)
        return self._writer

    def commit(self) -> dict[str, str]:
        """Put the file in its place; its name by split."""
        if self._writer is None:
            raise DataError(f"{self._path}: nothing to export: every row was left out")
        self._writer.close()
        os.replace(self._temporary, self._path)
        return {"all": self._path.name}

    def discard(self) -> None:
        """Leave what was there before as it was."""
        if self._writer is not None:
            _abandon(self._writer)
        self._temporary.unlink(missing_ok=True)


class Folder:
    """An export into a new folder: `data/<split>.<type>` for each split that has a record."""

    def __init__(self, path: Path, file_type: FileType) -> None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConflictError(f"{path}: is there already; remove it or give another --out")
        self._path = path
        self._type = file_type
        self.staging = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._writers: dict[str, RecordWriter] = {}
        shutil.rmtree(self.staging, ignore_errors=True)
        (self.staging / "data").mkdir(parents=True)

    def writer(self, split: str) -> RecordWriter:
        """Where records of a split go."""
        if split not in self._writers:
            path = self.staging / self._name(split)
            self._writers[split] = _open_writer(path, path.name)
        return self._writers[split]

    def finish(self) -> dict[str, str]:
        """Close the files; their names by split. What else the folder needs can be added now."""
        for writer in self._writers.values():
            writer.close()
        return {split: self._name(split) for split in self._writers}

    def commit(self) -> dict[str, str]:
        """Move the folder to its place; its files by split."""
        if not self._writers:
            raise DataError(f"{self._path}: nothing to export: every row was left out")
        if self._path.exists():
            self._path.rmdir()
        os.replace(self.staging, self._path)
        return {split: self._name(split) for split in self._writers}

    def discard(self) -> None:
        """Leave no trace."""
        for writer in self._writers.values():
            _abandon(writer)
        shutil.rmtree(self.staging, ignore_errors=True)

    def _name(self, split: str) -> str:
        return f"data/{split}.{self._type}"


def _open_writer(path: Path, name: str) -> RecordWriter:
    if name.endswith(".parquet"):
        return ParquetWriter(path)
    return JsonlWriter(path, is_gzip=name.endswith(".gz"))


def _abandon(writer: RecordWriter) -> None:
    """Close a file that is thrown away: what it still holds may not fit on the disk."""
    with contextlib.suppress(OSError, CaiError):
        writer.close()
