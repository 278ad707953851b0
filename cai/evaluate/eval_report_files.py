"""A report on the disk: one HTML file, and the same as JSON beside it.

Start from `write_report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.errors import ConfigError
from cai.evaluate.eval_report import render_report
from cai.files import replace_json, replace_text


def write_report(report: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Write `out` and, beside it, the JSON under the same name; returns both paths.

    Raises ConfigError for a name that is no HTML file's.
    """
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: name an HTML file, as in report.html", param="out")
    data = out.with_suffix(".json")
    page = render_report(report, out=out)
    replace_json(data, report)
    replace_text(out, page)
    return out, data
