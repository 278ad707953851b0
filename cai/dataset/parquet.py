"""The door to pyarrow: rows from a Parquet file and rows into one, in batches.

Nothing else imports pyarrow. Start from `read_parquet` and `ParquetWriter`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai.errors import DataError, MissingDependencyError

_BATCH_ROWS = 1000


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file in order. Raises DataError when it is not one."""
    parquet = _pyarrow("reading .parquet files", "pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as exc:  # pyarrow's own errors derive from these
        raise DataError(f"{path}: not a readable Parquet file: {_first_line(exc)}") from exc
    with file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            yield from batch.to_pylist()


class ParquetWriter:
    """Writes rows in batches; the columns and their types are those of the first batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parquet = _pyarrow("writing .parquet files", "pyarrow.parquet")
        self._writer: Any = None
        self._schema: Any = None
        self._pending: list[Mapping[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._pending.append(row)
        if len(self._pending) >= _BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left and the file's footer."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        rows, self._pending = self._pending, []
        if not rows:
            return
        pyarrow = _pyarrow("writing .parquet files")
        try:
            table = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=self._schema)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as exc:
            raise DataError(
                f"{self._path}: a row does not have the columns of the first: {_first_line(exc)}; "
                "export as .jsonl"
            ) from exc
        if self._writer is None:
            self._schema = table.schema
            self._writer = self._parquet.ParquetWriter(self._path, self._schema)
        self._writer.write_table(table)


def _pyarrow(feature: str, module: str = "pyarrow") -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingDependencyError(feature, "pyarrow", "train") from None


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
