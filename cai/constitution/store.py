"""Constitutions by reference, from a folder of YAML files, with the releases' digests verified.

Reads only; `release.py` writes. Files are read again when they change on disk, so a long-running
process sees edits. Start from `ConstitutionStore(root).get("harmless@2")`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from cai.constitution.extends import CircleError, flatten
from cai.constitution.lock import LOCK_NAME, read_lock
from cai.constitution.schema import NAME_PATTERN, Constitution, VersionId
from cai.errors import CaiError, ConstitutionError, NotFoundError, TamperedReleaseError
from cai.yamlguard import Loaded, load_yaml_file, validate

State = Literal["draft", "released", "broken"]
Fingerprint = tuple[int, int, int]
MAX_BASES = 8
"""Constitutions that may extend one another in a row."""

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Ref(NamedTuple):
    """A name and a version; no version means the newest release."""

    name: str
    version: VersionId | None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


class Entry(NamedTuple):
    """A file that was read: the state of every file that it was made from, and what came of it."""

    stamps: tuple[tuple[Path, Fingerprint | None], ...]
    constitution: Constitution

    def is_fresh(self) -> bool:
        """Whether none of the files changed since."""
        return all(stamp is not None and fingerprint(path) == stamp for path, stamp in self.stamps)


@dataclass(frozen=True, slots=True)
class Summary:
    """One file of the store. A broken one has an `error` instead of content."""

    ref: str
    state: State
    title: str | None = None
    digest: str | None = None
    num_principles: int | None = None
    error: str | None = None


def parse_ref(text: str) -> Ref:
    """`harmless@2`, `harmless@draft` or `harmless`. Raises ConstitutionError for anything else."""
    name, at, version = text.partition("@")
    if NAME_PATTERN.fullmatch(name):
        if not at:
            return Ref(name, None)
        if version == "draft":
            return Ref(name, "draft")
        if _VERSION.fullmatch(version):
            return Ref(name, int(version))
    raise ConstitutionError(
        f"{text[:100]!r} is no constitution; write name@2, name@draft, or name for the newest",
        param="constitution",
    )


def check_place(constitution: Constitution, loaded: Loaded) -> None:
    """Raise ConstitutionError unless the file's name and version are those of its path."""
    assert loaded.path is not None, "a place is checked for files only"
    for key, written, expected in (
        ("name", constitution.name, loaded.path.parent.name),
        ("version", str(constitution.version), loaded.path.stem),
    ):
        if written != expected:
            raise loaded.fail(
                f"{key} is {written}, but the file is {expected}'s by its path; make them equal",
                (key,),
            )


class ConstitutionStore:
    """The constitutions under a folder: `<name>/<version>.yaml` and `<name>/draft.yaml`.

    Safe for several threads: what is cached is replaced as a whole.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._files: dict[Path, Entry] = {}
        self._lock: tuple[Fingerprint | None, dict[str, str]] = (None, {})

    def get(self, ref: str) -> Constitution:
        """The constitution behind a reference.

        Raises NotFoundError, ConstitutionError (the reference or the file is broken, or the release
        is not recorded) or TamperedReleaseError (a release lost its recorded digest).
        """
        asked = parse_ref(ref)
        known = self.versions(asked.name)
        version = asked.version if asked.version is not None else _newest(known)
        if version is None or version not in known:
            raise self._not_found(asked, known)
        return self._verified(Ref(asked.name, version))

    def names(self) -> tuple[str, ...]:
        """Names that have at least one version, sorted."""
        folders = (
            {entry.name for entry in self.root.iterdir() if entry.is_dir()}
            if self.root.is_dir()
            else set()
        )
        recorded = {ref.partition("@")[0] for ref in self.recorded()}
        return tuple(sorted(name for name in folders | recorded if self.versions(name)))

    def versions(self, name: str) -> tuple[VersionId, ...]:
        """Numbers that have a file or a record in the lock, in order; then `draft` if it exists."""
        if not NAME_PATTERN.fullmatch(name):
            return ()
        stems = {entry.stem for entry in (self.root / name).glob("*.yaml")}
        numbers = {int(stem) for stem in stems if _VERSION.fullmatch(stem)}
        numbers |= {
            int(ref.partition("@")[2]) for ref in self.recorded() if ref.startswith(f"{name}@")
        }
        return (*sorted(numbers), "draft") if "draft" in stems else tuple(sorted(numbers))

    def recorded(self) -> dict[str, str]:
        """Digests by reference, as `releases.lock` has them now."""
        before = fingerprint(self.root / LOCK_NAME)
        if before is None or before != self._lock[0]:
            self._lock = (before, read_lock(self.root))
        return self._lock[1]

    def path(self, name: str, version: VersionId) -> Path:
        """Where the file of a version is, or would be. Raises when that leads out of the root."""
        path = self.root / name / f"{version}.yaml"
        inside = path.resolve().is_relative_to(self.root.resolve())
        if not NAME_PATTERN.fullmatch(name) or not inside:
            raise ConstitutionError(
                f"leads out of {self.root}; put the file itself there, not a link", path=path
            )
        return path

    def load(self, name: str, version: VersionId) -> Constitution:
        """One file's content, from the cache while it is unchanged. Looks at no record."""
        return self._load(Ref(name, version), ()).constitution

    def read(self, loaded: Loaded) -> Constitution:
        """The constitution in a file's text, with what it extends; nothing is cached.

        Raises ConstitutionError, as when the text's name and version are not those of its path.
        """
        constitution = validate(Constitution, flatten(loaded, self.base))
        check_place(constitution, loaded)
        return constitution

    def base(self, ref: str) -> Constitution:
        """What a file that is not in the store yet may extend. Raises as `get` does."""
        return self._base(ref, ()).constitution

    def wrote(self, path: Path) -> None:
        """Told of a file that this process has put in its place, whole."""

    def list(self) -> tuple[Summary, ...]:
        """Every version of every name, the draft last; broken ones say what is wrong with them."""
        return tuple(
            self._summary(Ref(name, version))
            for name in self.names()
            for version in self.versions(name)
        )

    def _load(self, ref: Ref, chain: tuple[Ref, ...]) -> Entry:
        """One file with all that it extends; `chain` are the files that extend it in turn."""
        assert ref.version is not None, "a reference is resolved before it is loaded"
        path = self.path(ref.name, ref.version)
        cached = self._files.get(path)
        if cached is not None and cached.is_fresh():
            return cached
        entry = self._parse(ref, path, chain)
        self._files[path] = entry
        return entry

    def _parse(self, ref: Ref, path: Path, chain: tuple[Ref, ...]) -> Entry:
        stamps = [(path, fingerprint(path))]

        def base_of(text: str) -> Constitution:
            base = self._base(text, (*chain, ref))
            stamps.extend(base.stamps)
            return base.constitution

        loaded = load_yaml_file(path)
        constitution = validate(Constitution, flatten(loaded, base_of))
        check_place(constitution, loaded)
        return Entry(tuple(stamps), constitution)

    def _base(self, text: str, chain: tuple[Ref, ...]) -> Entry:
        asked = parse_ref(text)
        if asked in chain:
            circle = " > ".join(str(one) for one in (*chain[chain.index(asked) :], asked))
            raise CircleError(f"extends goes in a circle: {circle}; take 'extends' out of one")
        if asked.version is None:
            raise ConstitutionError(f"write the version too, as in {asked.name}@1")
        if asked.version not in (known := self.versions(asked.name)):
            raise self._not_found(asked, known)
        if len(chain) <= MAX_BASES:
            entry = self._entry(asked, chain)
            if len(chain) + len(entry.stamps) <= MAX_BASES + 1:
                return entry
        raise ConstitutionError(f"more than {MAX_BASES} extend one another; write some out")

    def _verified(self, ref: Ref) -> Constitution:
        return self._entry(ref, ()).constitution

    def _entry(self, ref: Ref, chain: tuple[Ref, ...]) -> Entry:
        """A file and what came of it; a release only when it has the digest recorded for it."""
        assert ref.version is not None, "a reference is resolved before it is verified"
        path = self.path(ref.name, ref.version)
        if ref.version == "draft":
            return self._load(ref, chain)
        recorded = self.recorded().get(str(ref))
        if not path.exists():
            raise ConstitutionError(
                f"is gone, but {LOCK_NAME} records {ref}; restore it from version control",
                path=path,
            )
        entry = self._load(ref, chain)
        if recorded is None:
            raise ConstitutionError(
                f"{ref} is not recorded in {LOCK_NAME}; copy it to draft.yaml with 'version: draft'"
                f" and run 'cai constitution release {ref.name}'",
                path=path,
            )
        digest = entry.constitution.digest
        if digest != recorded:
            raise TamperedReleaseError(
                f"the release {ref} was edited: its digest is {digest}, recorded is "
                f"{recorded}; restore the file and make the change in draft.yaml",
                path=path,
            )
        return entry

    def _summary(self, ref: Ref) -> Summary:
        try:
            constitution = self._verified(ref)
        except CaiError as exc:
            return Summary(str(ref), "broken", error=exc.message)
        return Summary(
            str(ref),
            "draft" if ref.version == "draft" else "released",
            constitution.title,
            constitution.digest,
            len(constitution.principles),
        )

    def _not_found(self, asked: Ref, known: Iterable[VersionId]) -> NotFoundError:
        versions = ", ".join(str(version) for version in known)
        if versions and asked.version is None:
            way_out = f"; it has no release yet: use '{asked.name}@draft', or release it"
        elif versions:
            way_out = f"; versions: {versions}"
        elif names := self.names():
            way_out = self._guess(asked, names)
        else:
            way_out = f"; there are none in {self.root}; begin one with 'cai constitution new NAME'"
        return NotFoundError(f"no constitution '{asked}'{way_out}", param="constitution")

    def _guess(self, asked: Ref, names: Sequence[str]) -> str:
        close = get_close_matches(asked.name, names, n=1)
        if not close:
            return f"; there are: {', '.join(names)}"
        versions = self.versions(close[0])
        meant = Ref(close[0], asked.version if asked.version in versions else None)
        listed = ", ".join(str(version) for version in versions)
        return f"; did you mean '{meant}'? versions: {listed}"


def _newest(versions: Iterable[VersionId]) -> int | None:
    return max((version for version in versions if version != "draft"), default=None)


def fingerprint(path: Path) -> Fingerprint | None:
    """What changes when a file does; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
