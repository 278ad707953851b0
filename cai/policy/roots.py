"""Where policies may lie: below the home folder, or below a root that the operator named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai.engine.model_folder import files_of
from cai.errors import InputError, NotFoundError


class Roots:
    """The folders below which a policy may lie; a link counts as what it leads to."""

    def __init__(self, home: Path, others: Sequence[Path] = ()) -> None:
        self.home = home.resolve()
        self._all = (self.home, *(one.resolve() for one in others))

    def checked(self, folder: Path) -> Path:
        """The folder without links on the way. Raises InputError when it, or a file of it, is out.

        Raises NotFoundError when it is not there.
        """
        path = folder.resolve()
        self._check(path, folder)
        if not path.is_dir():
            raise NotFoundError(f"no policy folder at '{folder}'", param="path")
        for name, file in files_of(path):
            self._check(file.resolve(), folder / name)
        return path

    def told(self, path: Path) -> str:
        """A checked folder as it is written down: relative to the home folder when inside it."""
        inside = path.is_relative_to(self.home)
        return str(path.relative_to(self.home) if inside else path)

    def path(self, told: str) -> Path:
        """The folder that was written down. Raises InputError when its root is no longer one."""
        path = (self.home / told).resolve()
        self._check(path, path)
        return path

    def _check(self, path: Path, named: Path) -> None:
        if not any(path.is_relative_to(root) for root in self._all):
            outside = " and ".join(map(str, self._all))
            raise InputError(
                f"{named}: lies outside {outside}; move it to {self.home}/policies, or name a "
                "folder above it in CAI_POLICY_ROOTS",
                param="path",
            )
