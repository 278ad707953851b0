"""The forms by name, and which of them a file has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.forms import anthropic, llm_swarm, model_spec, own
from cai.constitution.schema import Constitution
from cai.errors import ConstitutionError
from cai.registry import choices

Content = dict[str, Any]
"""What `Constitution` takes, but for its name and version."""


class Form(NamedTuple):
    """A form: how to tell it, read it and write it. Text forms are handed the text, else JSON."""

    is_form: Callable[[Any], bool]
    read: Callable[[Any], Content]
    write: Callable[[Constitution], str]
    is_text: bool = False


FORMS: dict[str, Form] = {
    "json": Form(own.is_form, own.read, own.write),
    "anthropic-critique": Form(
        anthropic.is_critique_form, anthropic.read_critiques, anthropic.write_critiques
    ),
    "anthropic-compare": Form(
        anthropic.is_compare_form, anthropic.read_compares, anthropic.write_compares
    ),
    "llm-swarm": Form(llm_swarm.is_form, llm_swarm.read, llm_swarm.write),
    "model-spec": Form(model_spec.is_form, model_spec.read, model_spec.write, is_text=True),
}


def form_named(name: str) -> Form:
    """The form of this name. Raises ConstitutionError naming the others."""
    if name not in FORMS:
        raise ConstitutionError(f"no form '{name[:60]}'{choices(name, FORMS)}", param="format")
    return FORMS[name]


def parsed(text: str, path: Path, name: str | None) -> tuple[str, Content]:
    """The form's name and the content of a text. Raises ConstitutionError when it has none."""
    if name is not None:
        form = form_named(name)
        value: Any = text if form.is_text else _json(text, path)
        if not form.is_form(value):
            raise ConstitutionError(f"does not have the form '{name}'", path=path)
        return name, form.read(value)
    if model_spec.is_form(text):
        return "model-spec", model_spec.read(text)
    value = _json(text, path)
    for found, form in FORMS.items():
        if not form.is_text and form.is_form(value):
            return found, form.read(value)
    raise ConstitutionError(
        f"has none of the forms that are read: {', '.join(FORMS)}; name one with --format",
        path=path,
    )


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        raise ConstitutionError(
            f"is not JSON: {exc.msg}", path=path, line=exc.lineno, column=exc.colno
        ) from None
    except RecursionError:
        raise ConstitutionError("is nested too deeply", path=path) from None
