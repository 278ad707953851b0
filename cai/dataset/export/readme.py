"""The YAML header of a README.md on the hub, written by hand so that any text is safe in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


def hub_header(
    files: Mapping[str, str],
    *,
    pretty_name: str,
    tags: tuple[str, ...] = ("constitutional-ai", "rlaif", "preference"),
    license: str | None = None,
    num_rows: int | None = None,
) -> str:
    """The header between its `---` lines; `files` by split become the data files of one config."""
    lines = ["---", f"pretty_name: {quoted(pretty_name)}"]
    if license is not None:
        lines.append(f"license: {quoted(license)}")
    lines += ["task_categories:", "- text-generation", "tags:"]
    lines += [f"- {quoted(tag)}" for tag in tags]
    if num_rows is not None:
        lines += ["size_categories:", f"- {quoted(size_category(num_rows))}"]
    if files:
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split, path in files.items():
            lines += [f"  - split: {quoted(split)}", f"    path: {quoted(path)}"]
    return "\n".join([*lines, "---", ""])


def quoted(text: str) -> str:
    """A YAML string that holds any text: JSON's form, with what YAML takes for a break escaped.

    >>> print(quoted("a: b"))
    "a: b"
    """
    written = json.dumps(text, ensure_ascii=False)
    return _BREAKS.sub(lambda match: f"\\u{ord(match.group()):04x}", written)


def size_category(num_rows: int) -> str:
    """The hub's word for a number of rows.

    >>> size_category(999), size_category(1000)
    ('n<1K', '1K<n<10K')
    """
    limits = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    return next((word for limit, word in limits if num_rows < limit), "1M<n<10M")
