"""What the commands of `cai eval` share: bars for their stages, and bounds of their numbers."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cai.cli.output import Bar, progress
from cai.errors import ConfigError
from cai.evaluate.policy_eval import Progress
from cai.evaluate.results import load


class Bars:
    """One bar after another, for the stages of an evaluation."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._bar: Bar | None = None

    @property
    def progress(self) -> Progress:
        """What an evaluation is given to tell of its work."""
        return Progress(self._begin, self._done)

    def _begin(self, what: str, total: int) -> None:
        self._stack.pop_all().close()
        self._bar = self._stack.enter_context(progress(what, total))

    def _done(self) -> None:
        assert self._bar is not None, "work begins before it is done"
        self._bar.advance()


def check_ranges(**given: tuple[float | None, float, float]) -> None:
    """Raise ConfigError for a value outside its bounds, (value, low, high), by its flag."""
    for name, (value, low, high) in given.items():
        if value is not None and not low <= value <= high:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is {value}; give {low:g} to {high:g}", param=name)


def kept(path: Path, home: Path) -> dict[str, Any]:
    """A result as it was kept in the folder `path`, and where: what `--json` prints."""
    return {**load(path, home).model_dump(mode="json"), "path": str(path)}
