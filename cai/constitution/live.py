"""Constitutions for a long-running process: edits are picked up, broken ones leave the last good.

A draft that is being written, is broken, or is gone for a moment, goes on as it was, with a log
line; a release whose digest does not match is refused all the same. Start from `LiveStore`, which
is a `ConstitutionStore`; call `refresh` when the folder changed, so that edits are told at once.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cai.constitution.schema import Constitution
from cai.constitution.store import (
    ConstitutionStore,
    Entry,
    Fingerprint,
    Ref,
    Summary,
    fingerprint,
    parse_ref,
)
from cai.errors import CaiError, ConstitutionError, NotFoundError

SETTLED_S = 0.1
"""Seconds without a change after which a file counts as written: editors write in pieces."""

GRACE_S = 1.0
"""Seconds for which a draft that is gone stays: some editors put a new file in its place."""

_TRIES = 20

logger = logging.getLogger(__name__)

_State = tuple[Fingerprint | None, ...]


class _Refusal(NamedTuple):
    """An edit that was not taken, and why."""

    state: _State
    message: str


class LiveStore(ConstitutionStore):
    """Safe for several threads: what is kept is replaced as a whole."""

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._seen: dict[Path, tuple[Fingerprint | None, float]] = {}
        self._whole: dict[Path, Fingerprint | None] = {}
        self._refused: dict[Path, _Refusal] = {}
        self._gone: dict[Path, float] = {}
        self._last_lock: dict[str, str] = {}
        self._is_lock_refused = False

    def get(self, ref: str) -> Constitution:
        """As the store's; the newest release is the newest that is recorded.

        A file that a release is still being written to is none yet.
        """
        asked = parse_ref(ref)
        if asked.version is None:
            numbers = [
                version
                for version in self.versions(asked.name)
                if version != "draft" and f"{asked.name}@{version}" in self.recorded()
            ]
            if numbers:
                return super().get(f"{asked.name}@{max(numbers)}")
        try:
            found = super().get(ref)
        except NotFoundError:
            kept = self._kept_for_a_moment(asked)
            if kept is None:
                raise
            return kept
        self._gone.pop(self.root / asked.name / "draft.yaml", None)
        return found

    def recorded(self) -> dict[str, str]:
        """As the store's; a lock that is broken, or gone, leaves the last good one."""
        try:
            found = super().recorded()
        except ConstitutionError as exc:
            found, why = {}, exc.message
        else:
            why = "it is gone"
        if found or not self._last_lock:
            self._last_lock, self._is_lock_refused = found, False
            return found
        if not self._is_lock_refused:
            logger.warning("releases.lock: not taken, the last good one stays: %s", why)
            self._is_lock_refused = True
        return self._last_lock

    def wrote(self, path: Path) -> None:
        """Take a file as whole at once: this process has put it in its place."""
        self._whole[path] = fingerprint(path)

    def refresh(self) -> None:
        """Read what changed, and log what was picked up and what was refused."""
        for name in self.names():
            for version in self.versions(name):
                try:
                    self._verified(Ref(name, version))
                except CaiError as exc:
                    logger.warning("constitution %s@%s: %s", name, version, exc.message)

    def _summary(self, ref: Ref) -> Summary:
        """As the store's; of a draft whose edit was not taken, with what is wrong with that."""
        found = super()._summary(ref)
        refusal = self._refused.get(self.root / ref.name / "draft.yaml")
        if ref.version != "draft" or refusal is None:
            return found
        return replace(found, error=found.error or refusal.message)

    def _load(self, ref: Ref, chain: tuple[Ref, ...]) -> Entry:
        assert ref.version is not None, "a reference is resolved before it is loaded"
        path = self.path(ref.name, ref.version)
        cached = self._files.get(path)
        if cached is None:
            return self._load_first(ref, chain, path)
        if cached.is_fresh() or not all(self._is_settled(one) for one, _ in cached.stamps):
            return cached
        if ref.version != "draft":
            return super()._load(ref, chain)
        state = _state(path, cached)
        refusal = self._refused.get(path)
        if refusal is not None and refusal.state == state:
            return cached
        return self._reload(ref, chain, path, cached, state)

    def _reload(
        self, ref: Ref, chain: tuple[Ref, ...], path: Path, cached: Entry, state: _State
    ) -> Entry:
        """The draft as it is now, or as it was when that will not do."""
        try:
            entry = self._parse(ref, path, chain)
        except CaiError as exc:
            self._refused[path] = _Refusal(state, exc.message)
            message = "constitution %s: edit not taken, digest %s stays: %s"
            logger.warning(message, ref, cached.constitution.digest, exc.message)
            return cached
        if not entry.is_fresh():  # changed while it was read: what was read may be of two edits
            return cached
        self._files[path] = entry
        self._refused.pop(path, None)
        if entry.constitution.digest != cached.constitution.digest:
            logger.info("constitution %s: edit taken, digest %s", ref, entry.constitution.digest)
        return entry

    def _load_first(self, ref: Ref, chain: tuple[Ref, ...], path: Path) -> Entry:
        """There is nothing to go on with: wait, in this thread, until the file is written."""
        for _ in range(_TRIES):
            if not self._is_settled(path):
                time.sleep(SETTLED_S / 4)
                continue
            entry = self._parse(ref, path, chain)
            if entry.is_fresh():
                self._files[path] = entry
                return entry
        raise ConstitutionError("is being written all the time; try again later", path=path)

    def _is_settled(self, path: Path) -> bool:
        """Whether the file was left alone for a while, by its own time or by what was seen."""
        now = fingerprint(path)
        if now is not None and self._whole.get(path) == now:
            return True
        seen = self._seen.get(path)
        if seen is None or seen[0] != now:
            seen = (now, time.monotonic())
            self._seen[path] = seen
        age_s = time.time() - now[0] / 1e9 if now is not None else 0.0
        return age_s >= SETTLED_S or time.monotonic() - seen[1] >= SETTLED_S

    def _kept_for_a_moment(self, asked: Ref) -> Constitution | None:
        """A draft that was there just now."""
        path = self.root / asked.name / "draft.yaml"
        cached = self._files.get(path)
        if asked.version != "draft" or cached is None or path.exists():
            return None
        if time.monotonic() - self._gone.setdefault(path, time.monotonic()) < GRACE_S:
            return cached.constitution
        self._files.pop(path, None)
        self._gone.pop(path, None)
        return None


def _state(path: Path, cached: Entry) -> _State:
    """What a refusal was about: it holds until the file, or one that it extends, changes."""
    return fingerprint(path), *(fingerprint(one) for one, _ in cached.stamps)
