"""Files of clients, and artifacts of runs, by id: prompts and datasets in, rows and reports out.

    HOME/files/file-<20 hex digits>.jsonl         the content; the id is made of its digest
    HOME/files/records/<id>.json                  written last: without it there is no such file

An artifact of a run has the id `<run>.<file>`, as in `toy.rows.jsonl`. Nothing here takes a path
from outside. Start from `FileStore.begin` and `FileStore.path`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from cai.errors import DataError, InputError, NotFoundError
from cai.files import digest_file, read_json, replace_json, sync_folder
from cai.jobs.spec import Record, check_name, now

ENDINGS = (".jsonl.gz", ".jsonl", ".txt.gz", ".txt", ".json", ".parquet")
"""What the name of an uploaded file ends in: readers know the format by it."""

ARTIFACTS = (
    *("rows.jsonl", "transcripts.jsonl", "rejected.jsonl", "manifest.json"),
    *("config.yaml", "curves.jsonl", "run.json", "report.json"),
)
"""Files of a run directory that clients may read."""

_HEX_DIGITS = 20
_MAX_NAME_CHARS = 255


class FileRecord(Record):
    """What is known of a file."""

    id: str
    filename: str
    """As the client named it; shown, never opened."""
    purpose: str
    size_bytes: int
    digest: str
    created_at: str
    actor: str


class FileStore:
    """The files below a home folder. Safe for several processes."""

    def __init__(self, home: Path, *, max_bytes: int, max_total_bytes: int) -> None:
        self._folder = home / "files"
        self._records_folder = self._folder / "records"
        self._runs = home / "runs"
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes

    @contextlib.contextmanager
    def begin(self, filename: str, *, purpose: str, actor: str) -> Iterator[Upload]:
        """A file to be written in pieces; what is not finished inside leaves nothing behind.

        Raises InputError for a name whose ending says no format, or when the store is full.
        """
        ending = _ending(filename)
        room = self._max_total_bytes - sum(record.size_bytes for record in self.records())
        if room <= 0:
            raise InputError(
                f"the files here take {self._max_total_bytes:,} bytes (max_files_total_bytes); "
                "the operator can delete some, or raise it",
                param="file",
            )
        self._records_folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(8)}.tmp"
        upload = Upload(self, temporary, ending, min(room, self._max_bytes))
        upload.about = {"filename": filename, "purpose": purpose, "actor": actor}
        try:
            yield upload
        finally:
            upload.close()
            temporary.unlink(missing_ok=True)

    def records(self) -> list[FileRecord]:
        """Every uploaded file, oldest first."""
        found = (_read(path) for path in self._records_folder.glob("file-*.json"))
        return sorted(found, key=lambda record: (record.created_at, record.id))

    def get(self, id: str) -> FileRecord:
        """An uploaded file's record. Raises NotFoundError."""
        path = self._records_folder / f"{check_name(id, 'file', 'file')}.json"
        if not path.is_file():
            raise NotFoundError(f"no file '{id}'; POST /v1/files uploads one", param="file")
        return _read(path)

    def path(self, id: str) -> Path:
        """Where the content of an uploaded file or of a run's artifact is. Raises NotFoundError."""
        check_name(id, "file", "file")
        path = self._artifact(id) or self._folder / self.get(id).id
        if path.is_symlink() or not path.is_file():
            raise NotFoundError(f"the content of the file '{id}' is gone", param="file")
        return path

    def verify(self, id: str) -> Path:
        """As `path` of an uploaded file, its content checked against its digest."""
        record, path = self.get(id), self.path(id)
        if digest_file(path) != record.digest:
            raise DataError(
                f"the file '{id}' was changed since it was uploaded; upload it again", param="file"
            )
        return path

    def artifacts(self, run: str) -> dict[str, str]:
        """Ids of what there is of a run, by the name of the file."""
        folder = self._runs / check_name(run, "run", "run")
        names = [name for name in ARTIFACTS if (folder / name).is_file()]
        return {name: f"{run}.{name}" for name in names}

    def _artifact(self, id: str) -> Path | None:
        for name in ARTIFACTS:
            run = id.removesuffix(f".{name}")
            folder = self._runs / run
            if run and run != id and folder.is_dir() and not folder.is_symlink():
                return folder / name
        return None


class Upload:
    """A file on its way in. Made by `FileStore.begin`."""

    about: dict[str, str]

    def __init__(self, store: FileStore, path: Path, ending: str, max_bytes: int) -> None:
        self._store = store
        self._ending = ending
        self._max_bytes = max_bytes
        self._path = path
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """The next piece. Raises InputError when the file becomes too large."""
        self._size += len(data)
        if self._size > self._max_bytes:
            raise InputError(
                f"the file has more than {self._max_bytes:,} bytes, the most that is taken here "
                "now (max_file_bytes, max_files_total_bytes)",
                param="file",
            )
        self._file.write(data)
        self._hash.update(data)

    def finish(self) -> FileRecord:
        """Keep it. The same content again is the file that is there already."""
        if self._size == 0:
            raise InputError("the file is empty", param="file")
        self._file.flush()
        os.fsync(self._file.fileno())
        digest = self._hash.hexdigest()
        id = f"file-{digest[:_HEX_DIGITS]}{self._ending}"
        with contextlib.suppress(NotFoundError, DataError):
            self._store.verify(id)
            return self._store.get(id)
        return self._keep(id, f"sha256:{digest}")

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _keep(self, id: str, digest: str) -> FileRecord:
        folder = self._path.parent
        os.replace(self._path, folder / id)
        sync_folder(folder)
        known = {"id": id, "size_bytes": self._size, "digest": digest, "created_at": now()}
        record = FileRecord.model_validate({**known, **self.about})
        replace_json(folder / "records" / f"{id}.json", record.model_dump(mode="json"))
        return record


def _ending(filename: str) -> str:
    if not filename or len(filename) > _MAX_NAME_CHARS or re.search(r"[\x00-\x1f\x7f]", filename):
        raise InputError(
            f"give the file's name, 1 to {_MAX_NAME_CHARS} characters, none of them control "
            "characters: ?filename=prompts.jsonl",
            param="filename",
        )
    for ending in ENDINGS:
        if filename.lower().endswith(ending):
            return ending
    raise InputError(
        f"the name {filename[:100]!r} must end in one of {', '.join(ENDINGS)}", param="filename"
    )


def _read(path: Path) -> FileRecord:
    try:
        return FileRecord.model_validate(read_json(path))
    except ValidationError:
        raise DataError(f"{path}: not a record of a file") from None
