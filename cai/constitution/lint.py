"""What is wrong, or unwise, in a constitution file: findings with a rule id, severity and place.

A rule is a function over the parsed file and a row of `RULES`. Start from `lint`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from cai.constitution.schema import Case, Constitution, Principle
from cai.constitution.store import check_place
from cai.errors import ConstitutionError
from cai.yamlguard import KeyPath, Loaded, examine, load_yaml_file

Severity = Literal["error", "warning"]
Complaint = tuple[KeyPath, str]
Check = Callable[[Constitution], Iterator[Complaint]]

NEAR_DUPLICATE = 0.8
"""Share of words in common from which two texts are reported as near-duplicates."""

_STEPS = ("critique", "revision", "compare")
_MARKERS = re.compile(
    r"<\|[^|>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(bos|eos|pad|unk)>|"
    r"</?(start|end)_of_turn>|</?think>|\{\{|\}\}|\{%|%\}"
)
_HIDDEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069]")


class Finding(NamedTuple):
    """One remark about a file. Errors make the file unusable or unsafe; warnings are advice."""

    rule: str
    severity: Severity
    message: str
    path: Path
    line: int
    column: int


class Rule(NamedTuple):
    """A named check over a constitution that parsed."""

    id: str
    severity: Severity
    check: Check


def lint(path: Path) -> list[Finding]:
    """All findings in one file, by line; of a file that does not parse, what keeps it from that."""
    path = Path(path)
    try:
        loaded = load_yaml_file(path)
    except ConstitutionError as exc:
        return [Finding("yaml", "error", exc.reason, path, exc.line or 1, exc.column or 1)]
    constitution, problems = examine(Constitution, loaded)
    if constitution is None:
        return [Finding("schema", "error", message, path, *at) for message, *at in problems]
    findings = list(_misplaced(constitution, loaded, path))
    for rule in RULES:
        for at, message in rule.check(constitution):
            place = loaded.position(at)
            findings.append(Finding(rule.id, rule.severity, message, path, *place))
    return sorted(findings, key=lambda one: (one.line, one.column, one.rule))


def _misplaced(constitution: Constitution, loaded: Loaded, path: Path) -> Iterator[Finding]:
    try:
        check_place(constitution, loaded)
    except ConstitutionError as exc:
        yield Finding("place", "error", exc.reason, path, exc.line or 1, exc.column or 1)


def _no_case(constitution: Constitution) -> Iterator[Complaint]:
    for at, principle in _principles(constitution):
        if not principle.cases:
            yield at, f"'{principle.id}' has no case; add a prompt with a better and a worse answer"


def _no_compare(constitution: Constitution) -> Iterator[Complaint]:
    for at, principle in _principles(constitution):
        if principle.compare is None:
            yield at, f"'{principle.id}' has no 'compare'; no judge can use it"


def _no_critique(constitution: Constitution) -> Iterator[Complaint]:
    for at, principle in _principles(constitution):
        if principle.critique is None:
            yield at, f"'{principle.id}' has no 'critique' and 'revision'; no revision can use it"


def _same_answers(constitution: Constitution) -> Iterator[Complaint]:
    for at, case in _cases(constitution):
        if case.better == case.worse:
            yield (*at, "worse"), "the worse answer equals the better one; write a different one"


def _near_duplicates(constitution: Constitution) -> Iterator[Complaint]:
    for step in _STEPS:
        texts = [
            (at, principle.id, words)
            for at, principle in _principles(constitution)
            if (words := _words(getattr(principle, step)))
        ]
        for (_, first, a), (at, second, b) in combinations(texts, 2):
            if len(a & b) >= NEAR_DUPLICATE * len(a | b):
                message = f"'{second}' and '{first}' have nearly the same {step}; merge or reword"
                yield (*at, step), message


def _markers(constitution: Constitution) -> Iterator[Complaint]:
    for at, text in _texts(constitution):
        if found := _MARKERS.search(text):
            yield at, f"'{found.group()}' looks like a template marker; put it in other words"


def _hidden_characters(constitution: Constitution) -> Iterator[Complaint]:
    for at, text in _texts(constitution):
        if found := _HIDDEN.search(text):
            yield at, f"the invisible character U+{ord(found.group()):04X} is inside; delete it"


def _principles(constitution: Constitution) -> Iterator[tuple[KeyPath, Principle]]:
    for index, principle in enumerate(constitution.principles):
        yield ("principles", index), principle


def _cases(constitution: Constitution) -> Iterator[tuple[KeyPath, Case]]:
    for at, principle in _principles(constitution):
        for index, case in enumerate(principle.cases):
            yield (*at, "cases", index), case


def _texts(constitution: Constitution) -> Iterator[tuple[KeyPath, str]]:
    """Every text that reaches a model."""
    for at, principle in _principles(constitution):
        for step in _STEPS:
            if (text := getattr(principle, step)) is not None:
                yield (*at, step), text
    for at, case in _cases(constitution):
        yield (*at, "prompt"), "\n".join(message.content for message in case.messages)
        yield (*at, "better"), case.better
        yield (*at, "worse"), case.worse
    for index, example in enumerate(constitution.few_shot):
        at = ("few_shot", index)
        yield (*at, "messages"), "\n".join(turn.content for turn in example.messages)
        for key in ("response", "critique", "revision"):
            yield (*at, key), getattr(example, key)


def _words(text: str | None) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", (text or "").lower()))


RULES: tuple[Rule, ...] = (
    Rule("no-case", "warning", _no_case),
    Rule("no-compare", "warning", _no_compare),
    Rule("no-critique", "warning", _no_critique),
    Rule("same-answers", "error", _same_answers),
    Rule("near-duplicate", "warning", _near_duplicates),
    Rule("template-marker", "error", _markers),
    Rule("hidden-character", "warning", _hidden_characters),
)
