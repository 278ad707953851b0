"""Names that stand for objects elsewhere: "module:object", imported when first asked for.

What must cross between units of one layer goes through here by name, so that neither imports the
other. Start from `Registry(kind, entries).get(name)`; `did_you_mean` serves every unknown name.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cai.errors import ConfigError, NotFoundError


class Registry:
    """A table of names of one kind ("engine", "suite check"), each with its target."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets = dict(entries)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._targets))

    def get(self, name: str) -> Any:
        """The object behind `name`. Raises NotFoundError naming close matches."""
        if name not in self._targets:
            raise NotFoundError(f"no {self.kind} '{name[:100]}'{choices(name, self)}")
        return load_object(self._targets[name])

    def register(self, name: str, target: str) -> None:
        """Add a name. Raises ConfigError when it stands for something else already."""
        if self._targets.setdefault(name, target) != target:
            raise ConfigError(
                f"the {self.kind} '{name}' is already {self._targets[name]}; choose another name"
            )


def load_object(target: str) -> Any:
    """Import `module` and return its `object`, for a target written "module:object"."""
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(f"'{target}' does not name an object; write it as module:object")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(
            f"the module {module_name} has no '{attribute}'"
            f"{did_you_mean(attribute, vars(module).keys())}"
        ) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `known`, or nothing when none is close."""
    matches = difflib.get_close_matches(name[:200], sorted(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def choices(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest one, if any, and all there are."""
    known = sorted(known)
    guess = did_you_mean(name, known)
    return f"{guess or ';'} there are: {', '.join(known) or 'none'}"
