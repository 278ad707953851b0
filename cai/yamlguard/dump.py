"""Plain data to YAML that the loader reads back as the same data. Start from `dump_yaml`.

For files that a tool writes from nothing, such as a resolved config; a file of the user's is
edited as text, so that its comments stay.
"""

from __future__ import annotations

from typing import Any

import yaml

from cai.yamlguard.scalars import resolve


def dump_yaml(data: Any) -> str:
    """Block style, keys in their order; text that would read as something else is quoted."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def reads_as_text(text: str) -> bool:
    """Whether the text, unquoted, is read back as itself and not as a number, say."""
    try:
        return resolve(text) == text and text != "<<"
    except ValueError:
        return False


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper without aliases, quoting by YAML 1.2 as well as 1.1."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if reads_as_text(text) else '"'
    )


_Dumper.add_representer(str, _represent_text)
