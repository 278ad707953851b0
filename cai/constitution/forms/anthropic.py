"""The two JSON forms that came with "Constitutional AI" (Bai et al. 2022, arXiv 2212.08073).

Critique and revision requests: `{"harmful0": {"prompt": [text], "edit_request": text}, …}`, each
text in a wrapper. Comparison principles, another set: a list of texts that end with " Options:".
Wrappers are taken off when reading and put on again when writing.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from cai.constitution.schema import Constitution
from cai.errors import ConstitutionError


class Wrapper(NamedTuple):
    """What stands around a text."""

    before: str
    after: str

    def put_on(self, text: str) -> str:
        """The text inside its wrapper."""
        return f"{self.before}{text}{self.after}"

    def taken_off(self, text: str) -> str:
        """The text alone; a part of the wrapper that is not there is not missed."""
        return text.removeprefix(self.before).removesuffix(self.after).strip()


CRITIQUE = Wrapper("\n\nCritiqueRequest: ", "\n\nCritique:")
REVISION = Wrapper("\n\nRevisionRequest: ", "\n\nRevision:")
COMPARE = Wrapper("\n", " Options:")


def is_critique_form(value: Any) -> bool:
    """Whether a JSON value has the first form."""
    return isinstance(value, dict) and bool(value) and all(map(_is_instruction, value.values()))


def read_critiques(value: dict[str, Any]) -> dict[str, Any]:
    """A principle per entry, with the entry's key as id."""
    return {
        "title": "Critique and revision requests in Anthropic's form",
        "principles": [
            {
                "id": kebab(key),
                "critique": CRITIQUE.taken_off(entry["prompt"][0]),
                "revision": REVISION.taken_off(entry["edit_request"]),
            }
            for key, entry in value.items()
        ],
    }


def write_critiques(constitution: Constitution) -> str:
    """The first form; principles without a critique are left out."""
    entries = {
        one.id: {
            "prompt": [CRITIQUE.put_on(one.critique or "")],
            "edit_request": REVISION.put_on(one.revision or ""),
        }
        for one in constitution.candidates("critique")
    }
    if not entries:
        raise _nothing(constitution, "critique")
    return json.dumps(entries, ensure_ascii=False) + "\n"


def is_compare_form(value: Any) -> bool:
    """Whether a JSON value has the second form."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def read_compares(value: list[str]) -> dict[str, Any]:
    """A principle per text; its place makes its id."""
    return {
        "title": "Comparison principles in Anthropic's form",
        "principles": [
            {"id": f"choice{index}", "compare": COMPARE.taken_off(text)}
            for index, text in enumerate(value)
        ],
    }


def write_compares(constitution: Constitution) -> str:
    """The second form; principles without a comparison are left out."""
    texts = [COMPARE.put_on(one.compare or "") for one in constitution.candidates("compare")]
    if not texts:
        raise _nothing(constitution, "compare")
    return json.dumps(texts, ensure_ascii=False) + "\n"


def kebab(key: str) -> str:
    """A key as an id: lower case, digits and hyphens.

    >>> kebab("Seek_Truth 2")
    'seek-truth-2'
    """
    id = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[:64].strip("-")
    return id or "principle"


def _is_instruction(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("edit_request"), str):
        return False
    prompt = entry.get("prompt")
    return isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str)


def _nothing(constitution: Constitution, step: str) -> ConstitutionError:
    return ConstitutionError(
        f"no principle of {constitution.ref} has '{step}'; export another form", param="format"
    )
