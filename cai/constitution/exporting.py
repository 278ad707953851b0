"""A constitution in another form, with what it extends written out. Start from `exported`."""

from __future__ import annotations

from cai.constitution.forms.table import FORMS, form_named
from cai.constitution.release import FIRST_LINE
from cai.constitution.schema import Constitution
from cai.yamlguard import dump_yaml

FORMATS = (*FORMS, "yaml")


def exported(constitution: Constitution, form: str) -> str:
    """The text of a file in the form: one of `FORMATS`.

    Raises ConstitutionError for an unknown form, or when no principle has what the form holds.
    """
    if form == "yaml":
        content = constitution.model_dump(
            mode="json", exclude_defaults=True, exclude={"extends", "format"}
        )
        return f"{FIRST_LINE}\n{dump_yaml(content)}"
    return form_named(form).write(constitution)
