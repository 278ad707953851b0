"""The linter's rules: what is unwise in a constitution that parsed, each with its id and severity.

A rule yields the place of a complaint, as a path of keys, and its words. Rules about how a question
is put are in `lint_words`. Start from `RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cai.constitution.lint_words import doubled, leading, negated
from cai.constitution.schema import Case, Constitution, Principle
from cai.yamlguard import KeyPath, Loaded

Severity = Literal["error", "warning", "note"]
Complaint = tuple[KeyPath, str]

NEAR_DUPLICATE = 0.8
"""Share of words in common from which two texts are reported as near-duplicates."""

LENGTH_RATIO, LENGTH_WORDS = 2.0, 8
"""One answer of a case with so many times, and so many more, words than the other is told by it."""

LENGTH_PATTERN = 1.5
"""From this ratio on, in the same direction in every case, a principle's cases teach length."""

SCHEMA_LINE = re.compile(r"#\s*yaml-language-server:\s*\$schema=\S+")
STEPS = ("critique", "revision", "compare")

_MARKERS = re.compile(
    r"<\|[^|>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(bos|eos|pad|unk)>|"
    r"</?(start|end)_of_turn>|</?think>|\{\{|\}\}|\{%|%\}"
)
HIDDEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069]")


@dataclass(frozen=True, slots=True)
class Checked:
    """A constitution under the linter's eye, with the places of what stands in its own file."""

    constitution: Constitution
    loaded: Loaded

    def principles(self) -> Iterator[tuple[KeyPath, Principle]]:
        """The file's own principles; those of its base are the base's to answer for."""
        for index, principle in enumerate(self.constitution.principles):
            if self.is_own(at := ("principles", index)):
                yield at, principle

    def cases(self) -> Iterator[tuple[KeyPath, Case]]:
        """The cases that stand in the file."""
        for at, principle in self.principles():
            for index, case in enumerate(principle.cases):
                if self.is_own(place := (*at, "cases", index)):
                    yield place, case

    def is_own(self, at: KeyPath) -> bool:
        """Whether the value at a path stands in the file, and not only in what it extends."""
        return at in self.loaded.values

    def texts(self) -> Iterator[tuple[KeyPath, str]]:
        """Every text of the file that reaches a model."""
        for at, principle in self.principles():
            for step in STEPS:
                text = getattr(principle, step)
                if text is not None and self.is_own((*at, step)):
                    yield (*at, step), text
        for at, case in self.cases():
            yield (*at, "prompt"), "\n".join(message.content for message in case.messages)
            yield (*at, "better"), case.better
            yield (*at, "worse"), case.worse
        for index, example in enumerate(self.constitution.few_shot):
            if self.is_own(at := ("few_shot", index)):
                yield (*at, "messages"), "\n".join(turn.content for turn in example.messages)
                for key in ("response", "critique", "revision"):
                    yield (*at, key), getattr(example, key)


Check = Callable[[Checked], Iterator[Complaint]]


class Rule(NamedTuple):
    """A named check over a constitution that parsed. `fixable`: `lint_fix` can repair it."""

    id: str
    severity: Severity
    check: Check
    fixable: bool = False


def _no_case(checked: Checked) -> Iterator[Complaint]:
    for at, principle in checked.principles():
        if not principle.cases:
            yield at, f"'{principle.id}' has no case; add a prompt with a better and a worse answer"


def _no_compare(checked: Checked) -> Iterator[Complaint]:
    for at, principle in checked.principles():
        if principle.compare is None:
            yield at, f"'{principle.id}' has no 'compare'; no judge can use it"


def _no_critique(checked: Checked) -> Iterator[Complaint]:
    for at, principle in checked.principles():
        if principle.critique is None:
            yield at, f"'{principle.id}' has no 'critique' and 'revision'; no revision can use it"


def _same_answers(checked: Checked) -> Iterator[Complaint]:
    for at, case in checked.cases():
        if case.better == case.worse:
            yield (*at, "worse"), "the worse answer equals the better one; write a different one"


def _duplicates(checked: Checked) -> Iterator[Complaint]:
    for at, step, first, second, share in _alike(checked):
        if share == 1:
            yield (*at, step), f"'{second}' and '{first}' have the same {step}; delete one"


def _near_duplicates(checked: Checked) -> Iterator[Complaint]:
    for at, step, first, second, share in _alike(checked):
        if share < 1:
            message = f"'{second}' and '{first}' have nearly the same {step}; merge or reword"
            yield (*at, step), message


class _Alike(NamedTuple):
    at: KeyPath
    step: str
    first: str
    second: str
    share: float


def _alike(checked: Checked) -> Iterator[_Alike]:
    """Principles with much the same text for a step as an earlier one, each told once.

    Told at the one of the two that is the file's own.
    """
    for step in STEPS:
        texts = [
            (("principles", index), principle.id, words)
            for index, principle in enumerate(checked.constitution.principles)
            if (words := _words(getattr(principle, step)))
        ]
        for at, (place, second, words) in enumerate(texts):
            for earlier, first, others in texts[:at]:
                share = _share_in_common(words, others)
                own = [one for one in (place, earlier) if checked.is_own((*one, step))]
                if share >= NEAR_DUPLICATE and own:
                    yield _Alike(own[0], step, first, second, share)
                    break


def _share_in_common(words: frozenset[str], others: frozenset[str]) -> float:
    """Words that both have, of those that either has; 0 where the sizes alone rule it out."""
    small, large = sorted((len(words), len(others)))
    if small < NEAR_DUPLICATE * large:
        return 0.0
    return len(words & others) / len(words | others)


def _leading(checked: Checked) -> Iterator[Complaint]:
    for at, question in _questions(checked):
        if (found := leading(question)) is not None:
            yield at, f"'{found}' suggests the answer; ask what the better answer does, and no more"


def _double(checked: Checked) -> Iterator[Complaint]:
    for at, question in _questions(checked):
        if (found := doubled(question)) is not None:
            yield at, f"asks two things at once ('{found}'); make a principle of each"


def _negation(checked: Checked) -> Iterator[Complaint]:
    for at, question in _questions(checked):
        if (found := negated(question)) is not None:
            yield at, f"small judges misread '{found}'; ask for what the better answer does"


def _questions(checked: Checked) -> Iterator[tuple[KeyPath, str]]:
    for at, principle in checked.principles():
        if principle.compare is not None and checked.is_own((*at, "compare")):
            yield (*at, "compare"), principle.compare


def _answer_length(checked: Checked) -> Iterator[Complaint]:
    for at, case in checked.cases():
        better, worse = _num_words(case.better), _num_words(case.worse)
        long, short = max(better, worse), min(better, worse)
        if long >= LENGTH_RATIO * short and long - short >= LENGTH_WORDS:
            counts = f"the better answer has {better} words and the worse {worse}"
            yield at, f"{counts}, so its length gives it away; make them alike"


def _length_pattern(checked: Checked) -> Iterator[Complaint]:
    for at, principle in checked.principles():
        ratios = [_num_words(case.better) / _num_words(case.worse) for case in principle.cases]
        if len(ratios) < 2 or not checked.is_own((*at, "cases")):
            continue
        for word, always in (
            ("longer", min(ratios) >= LENGTH_PATTERN),
            ("shorter", max(ratios) <= 1 / LENGTH_PATTERN),
        ):
            if always:
                message = (
                    f"in every case of '{principle.id}' the better answer is much the {word} one; "
                    "add a case that is the other way round"
                )
                yield (*at, "cases"), message


def _idle_weights(checked: Checked) -> Iterator[Complaint]:
    """Weights also decide which principle is drawn for a critique, under every composition."""
    constitution = checked.constitution
    vetoes = [p for p in constitution.candidates("compare") if "veto" in p.tags]
    for at, principle in checked.principles():
        place = (*at, "weight")
        if not checked.is_own(place) or principle.serves("critique"):
            continue
        if len(constitution.candidates("compare")) == 1:
            yield place, "the only principle with 'compare' decides alone; delete the weight"
        elif constitution.composition == "priority":
            yield place, "under 'priority' the order decides, not the weight; move it and delete it"
        elif constitution.composition == "veto" and vetoes == [principle]:
            yield place, "the only veto overrules whatever its weight is; delete the weight"


def _equal_weights(checked: Checked) -> Iterator[Complaint]:
    weights = {principle.weight for principle in checked.constitution.principles}
    if len(weights) == 1 and weights != {1.0} and len(checked.constitution.principles) > 1:
        at = next(iter(checked.principles()), ((), None))[0]
        message = f"every weight is {weights.pop():g}, which is as good as none; delete them"
        yield (*at, "weight"), message


def _markers(checked: Checked) -> Iterator[Complaint]:
    for at, text in checked.texts():
        if found := _MARKERS.search(text):
            yield at, f"'{found.group()}' looks like a template marker; put it in other words"


def _hidden_characters(checked: Checked) -> Iterator[Complaint]:
    for at, text in checked.texts():
        if found := HIDDEN.search(text):
            yield at, f"the invisible character U+{ord(found.group()):04X} is inside; delete it"


def _repeated_tags(checked: Checked) -> Iterator[Complaint]:
    holders = [
        *((at, principle.tags) for at, principle in checked.principles()),
        *((at, case.tags) for at, case in checked.cases()),
    ]
    for at, tags in holders:
        if len(set(tags)) < len(tags) and checked.is_own((*at, "tags")):
            yield (*at, "tags"), "a tag stands twice; delete one"


def _schema_line(checked: Checked) -> Iterator[Complaint]:
    if not SCHEMA_LINE.match(checked.loaded.text):
        yield (), "the first line does not point editors to the schema; add it with --fix"


def _words(text: str | None) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", (text or "").lower()))


def _num_words(text: str) -> int:
    return max(1, len(text.split()))


RULES: tuple[Rule, ...] = (
    Rule("no-case", "warning", _no_case),
    Rule("no-compare", "warning", _no_compare),
    Rule("no-critique", "warning", _no_critique),
    Rule("same-answers", "error", _same_answers),
    Rule("duplicate", "error", _duplicates),
    Rule("near-duplicate", "warning", _near_duplicates),
    Rule("leading-question", "warning", _leading),
    Rule("double-question", "warning", _double),
    Rule("negation", "warning", _negation),
    Rule("answer-length", "warning", _answer_length),
    Rule("length-pattern", "warning", _length_pattern),
    Rule("idle-weight", "warning", _idle_weights),
    Rule("equal-weights", "warning", _equal_weights),
    Rule("template-marker", "error", _markers),
    Rule("hidden-character", "warning", _hidden_characters, fixable=True),
    Rule("repeated-tag", "note", _repeated_tags, fixable=True),
    Rule("schema-line", "note", _schema_line, fixable=True),
)
