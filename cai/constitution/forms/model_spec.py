"""OpenAI's Model Spec: Markdown whose headings carry `{#section_id authority=…}`.

Each section with an authority becomes a principle: its heading the title, its first paragraph the
rule in the three questions, and examples with a GOOD and a BAD answer its cases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from cai.constitution.forms.anthropic import kebab
from cai.constitution.schema import Case, Constitution
from cai.errors import ConstitutionError
from cai.types import Message

MAX_CASES = 4
"""Cases taken from one section: a whole specification has to fit one file."""

MAX_RATIONALE_CHARS = 400

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*(?:\{#([\w-]+)([^}]*)\})?\s*$")
_AUTHORITY = re.compile(r"\bauthority=([\w-]+)")
_EXAMPLE = re.compile(r"^\*\*Example\*\*:.*?^~~~+\w*\n(.*?)^~~~+\s*$", re.MULTILINE | re.DOTALL)
_ELEMENT = re.compile(r"<(\w+)([^<>]*)>\s*(?:<!--\s*(GOOD|BAD)\b.*?-->)?(.*?)</\1\s*>", re.DOTALL)
_COMPARISON = re.compile(r"<comparison>(.*?)</comparison>", re.DOTALL)
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class _Section(NamedTuple):
    id: str
    title: str
    authority: str
    body: str


def is_form(value: Any) -> bool:
    """Whether a text has a heading with a section id and an authority."""
    return isinstance(value, str) and any(True for _ in _sections(value))


def read(text: str) -> dict[str, Any]:
    """A principle per section that has an authority."""
    return {
        "title": _title(text),
        "principles": [_principle(section) for section in _sections(text)],
    }


def write(constitution: Constitution) -> str:
    """A section per principle, its rationale or question as the text, its cases as examples."""
    parts = [f"# {constitution.title}"]
    for one in constitution.principles:
        tags = [tag.removeprefix("authority-") for tag in one.tags if tag.startswith("authority-")]
        authority = tags[0] if tags else "guideline"
        parts.append(f"## {one.title or one.id} {{#{_anchor(one.id)} authority={authority}}}")
        parts.append(one.rationale or one.compare or one.critique or "")
        parts += [_example(case, index) for index, case in enumerate(one.cases, start=1)]
    return "\n\n".join(parts) + "\n"


def _sections(text: str) -> Iterator[_Section]:
    """Sections with an authority; a heading inside an example's fence is none."""
    heading: re.Match[str] | None = None
    body: list[str] = []
    is_fenced = False
    for line in [*text.splitlines(), "# end"]:
        is_fenced ^= line.startswith("~~~")
        found = None if is_fenced else _HEADING.match(line)
        if found is None:
            body.append(line)
            continue
        if heading is not None and (authority := _AUTHORITY.search(heading[4] or "")):
            yield _Section(heading[3], _plain(heading[2]), authority[1], "\n".join(body) + "\n")
        heading, body = found, []


def _principle(section: _Section) -> dict[str, Any]:
    paragraphs = _paragraphs(_EXAMPLE.sub("", section.body))
    if not paragraphs:
        paragraphs = [section.title]
    rule = f"{section.title}. {paragraphs[0]}"
    principle: dict[str, Any] = {
        "id": kebab(section.id),
        "title": section.title,
        "critique": f"Point out where the answer departs from this rule. {rule}",
        "revision": f"Rewrite the answer so that it follows this rule. {rule}",
        "compare": f"Which answer follows this rule better? {rule}",
        "tags": [f"authority-{kebab(section.authority)}"],
        "references": [f"#{section.id}"],
    }
    if len(paragraphs) > 1:
        principle["rationale"] = _shortened(" ".join(paragraphs[1:]))
    if cases := list(_cases(section.body))[:MAX_CASES]:
        principle["cases"] = cases
    return principle


def _paragraphs(body: str) -> list[str]:
    """Running text, without commentary, lists, tables and footnotes."""
    found = []
    for block in re.split(r"\n\s*\n", body):
        if not re.match(r"\s*(!!!|[-*|>]\s|\d+\.\s|\[\^|    |~~~)", block) and block.strip():
            found.append(_plain(" ".join(block.split())))
    return [one for one in found if one]


def _plain(text: str) -> str:
    """Markdown's words: links by their text or by their target's name, no emphasis or footnotes."""
    text = re.sub(r"\[\^[\w-]+\]", "", text)
    text = re.sub(r"\[\?\]\(#([\w-]+)\)", lambda found: found[1].replace("_", " "), text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*?|`", "", text).strip()


def _cases(body: str) -> Iterator[dict[str, Any]]:
    for example in _EXAMPLE.finditer(body):
        comparison = _COMPARISON.search(example[1])
        if comparison is None:
            continue
        asked = list(_ELEMENT.finditer(example[1][: comparison.start()]))
        turns = [
            {"role": _ROLES[one[1]], "content": one[4].strip()} for one in asked if one[1] in _ROLES
        ]
        answers = {
            one[3]: one[4].strip() for one in reversed(list(_ELEMENT.finditer(comparison[1])))
        }
        is_whole = len(turns) == len(asked) and turns and turns[-1]["role"] == "user"
        texts = [*(turn["content"] for turn in turns), answers.get("GOOD"), answers.get("BAD")]
        if is_whole and all(texts):
            prompt = turns[0]["content"] if len(turns) == 1 else turns
            yield {"prompt": prompt, "better": answers["GOOD"], "worse": answers["BAD"]}


def _example(case: Case, number: int) -> str:
    turns = "\n".join(_element(message) for message in case.messages)
    answers = "\n".join(
        f"<assistant> <!-- {verdict} -->\n{text}\n</assistant>"
        for verdict, text in (("GOOD", case.better), ("BAD", case.worse))
    )
    inside = f"{turns}\n<comparison>\n{answers}\n</comparison>"
    if "\n~~~" in inside:
        raise ConstitutionError(f"a case holds a line of '~~~', which ends an example: {number}")
    return f"**Example**: case {number}\n\n~~~xml\n{inside}\n~~~"


def _element(message: Message) -> str:
    return f"<{message.role}>\n{message.content}\n</{message.role}>"


def _title(text: str) -> str:
    for line in text.splitlines():
        if (found := _HEADING.match(line)) is not None:
            return _plain(found[2])
    return "Model Spec"


def _anchor(id: str) -> str:
    return id.replace("-", "_")


def _shortened(text: str) -> str:
    if len(text) <= MAX_RATIONALE_CHARS:
        return text
    return text[:MAX_RATIONALE_CHARS].rsplit(" ", 1)[0] + " …"
