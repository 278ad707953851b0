"""Templates to HTML pages that need nothing from outside, run no script and escape every text.

Start from `render_page`.
"""

from __future__ import annotations

from typing import Any


def render_page(template: str, **values: Any) -> str:
    """The page that a template beside this file makes of `values`; a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cai.evaluate", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
