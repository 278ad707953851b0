"""A training run's own folder: resolved config, checkpoints, curves, and `DONE` as the last file.

    run_dir/  config.yaml  run.json  checkpoints/checkpoint-N/  curves.jsonl  DONE

A checkpoint is whole when its `checkpoint.json` is there, written last with the digest of every
file: optimizer and random states are pickles, and only what this run wrote is ever loaded. A torn
one is removed. Light. Start from `RunFolder.open`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cai.dataset.lock import RunLock
from cai.dataset.resume import check_same
from cai.errors import ConfigError, DataError, NotFoundError
from cai.files import digest_file, read_json, replace_json, replace_text, sync_folder
from cai.train.curves import NAME as CURVES

Mode = Literal["auto", "resume", "fresh"]

CONFIG, RUN, CHECKPOINTS, DONE = "config.yaml", "run.json", "checkpoints", "DONE"
WATCH, BASELINES, TRACKED = "watch.json", "baselines.jsonl", "tracked"  # where a trainer has them
SEAL = "checkpoint.json"

_FOLDER = re.compile(r"checkpoint-(\d+)")
_LOCK = "lock"
_OWN = (DONE, CURVES, WATCH, BASELINES, CONFIG, RUN)  # in the order of removal


class SavedState(NamedTuple):
    """A whole checkpoint: the optimizer step after which it was written, and its folder."""

    step: int
    folder: Path


class RunFolder:
    """A run directory that this process writes to, until `close`. Made by `open`."""

    def __init__(self, folder: Path, lock: RunLock | None) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(
        cls,
        folder: Path,
        settled: Mapping[str, Any],
        *,
        config: str,
        mode: Mode = "auto",
        is_main: bool = True,
    ) -> RunFolder:
        """Begin a run, or go on with the one there under the same `settled` settings.

        `config` is the resolved config as YAML. Only the main process writes. Raises ConfigError
        naming the settings that differ, NotFoundError when `resume` finds nothing, ConflictError
        while another process writes there, DataError for a folder of something else.
        """
        if not is_main:
            return cls(folder, None)
        if mode == "resume" and not (folder / RUN).exists():
            raise NotFoundError(f"{folder}: no run to resume; leave --resume out to start one")
        _check_folder(folder)
        lock = RunLock.take(folder)
        try:
            if mode == "fresh":
                _clear(folder)
            if (folder / RUN).exists():
                check_same(folder, _settings_of(folder), settled)
                _drop_torn(folder / CHECKPOINTS)
            else:
                (folder / CHECKPOINTS).mkdir(exist_ok=True)
                replace_text(folder / CONFIG, config)
                replace_json(folder / RUN, {"format": 1, "settings": dict(settled)})
        except BaseException:
            lock.release()
            raise
        return cls(folder, lock)

    @property
    def checkpoints(self) -> Path:
        """Where the training state is kept."""
        return self.folder / CHECKPOINTS

    def newest(self) -> SavedState | None:
        """The newest whole checkpoint, its digests checked; None when there is none yet."""
        found = saved_states(self.checkpoints)
        if not found:
            return None
        verify_state(found[-1].folder)
        return found[-1]

    def finish(self, result: Mapping[str, Any]) -> None:
        """Say that the run is finished, as the last thing."""
        replace_json(self.folder / DONE, {"format": 1, **result})

    def close(self) -> None:
        """Let others write. Repeated calls do nothing."""
        if self._lock is not None:
            self._lock.release()


def read_done(run_dir: Path) -> dict[str, Any] | None:
    """What `RunFolder.finish` wrote, or None while the run is not finished."""
    return read_json(run_dir / DONE) if (run_dir / DONE).exists() else None


def seal_state(folder: Path, step: int) -> None:
    """Vouch for a checkpoint that was just written: every byte on disk, then `checkpoint.json`."""
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing here needs
    files = _digests(folder)
    for name in files:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
    replace_json(folder / SEAL, {"format": 1, "step": step, "files": files})


def verify_state(folder: Path) -> None:
    """Raise DataError naming the files that are not as they were when they were written."""
    known = read_json(folder / SEAL)["files"]
    found = _digests(folder)
    wrong = [name for name in sorted({*known, *found}) if known.get(name) != found.get(name)]
    if wrong:
        raise DataError(
            f"{folder}: changed since it was written ({', '.join(wrong[:6])}), so it is not "
            "loaded; delete the folder to go on from an earlier one, or start over with --fresh"
        )


def saved_states(folder: Path) -> list[SavedState]:
    """Whole checkpoints in order of their step."""
    found = [
        SavedState(int(match[1]), path)
        for path in (folder.iterdir() if folder.exists() else ())
        if (match := _FOLDER.fullmatch(path.name)) and (path / SEAL).exists()
    ]
    return sorted(found)


def keep_only(folder: Path, steps: Collection[int]) -> None:
    """Remove the checkpoints of all other steps; each is torn before it is gone."""
    for state in saved_states(folder):
        if state.step not in steps:
            (state.folder / SEAL).unlink()
            shutil.rmtree(state.folder)


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL and not path.name.endswith(".tmp")
    }


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = set(os.listdir(folder))
    except OSError as exc:
        raise DataError(f"{folder}: cannot be used as a run directory: {exc.strerror}") from exc
    if names - {_LOCK} and RUN not in names:
        raise DataError(f"{folder}: holds files but no training run; give another --out")


def _settings_of(folder: Path) -> dict[str, Any]:
    found = read_json(folder / RUN)
    if not isinstance(found, dict) or found.get("format") != 1 or "settings" not in found:
        raise ConfigError(f"{folder / RUN}: not a training run of format 1; give another --out")
    settings: dict[str, Any] = found["settings"]
    return settings


def _clear(folder: Path) -> None:
    """Remove what a run of ours wrote, `run.json` last."""
    for name in (CHECKPOINTS, TRACKED):
        shutil.rmtree(folder / name, ignore_errors=True)
    for plot in folder.glob("curves.*"):
        plot.unlink(missing_ok=True)
    for name in _OWN:
        (folder / name).unlink(missing_ok=True)


def _drop_torn(folder: Path) -> None:
    for path in folder.iterdir() if folder.exists() else ():
        if _FOLDER.fullmatch(path.name) and path.is_dir() and not (path / SEAL).exists():
            shutil.rmtree(path)
