"""What a constitution is: frozen records, the digest of their content, and the draw of a principle.

Knows nothing of files. Start from `Constitution`; `draw` picks the principle for one step of a row.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from cai.errors import ConstitutionError, NotFoundError
from cai.files import digest_json
from cai.registry import choices
from cai.types import Conversation, Message, Role
from cai.yamlguard import problem

Composition = Literal["sample", "mean", "priority", "veto"]
Step = Literal["critique", "compare"]
VersionId = int | Literal["draft"]

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Words for a person or a model: not empty, without the blanks that a YAML block leaves around."""


def _check_id(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", value):
        raise problem(
            f"'{value[:80]}' is no id; use up to 64 of a-z, 0-9 and '-', as in 'no-flattery'"
        )
    return value


def _check_name(value: str) -> str:
    if not NAME_PATTERN.fullmatch(value):
        raise problem(f"'{value[:80]}' is no name; use up to 64 of a-z, 0-9, '-', '_' and '.'")
    return value


def _check_not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise problem("the list is empty; write at least one entry")
    return value


def _check_version(value: Any) -> Any:
    if value != "draft" and (isinstance(value, bool) or not isinstance(value, int)):
        raise problem(f"version is {value!r:.80}; write a whole number without quotes, or draft")
    if isinstance(value, int) and not 1 <= value < 10**9:
        raise problem(f"version is {value}; write a whole number from 1 on, or draft")
    return value


def _check_extends(value: str) -> str:
    name, _, version = value.partition("@")
    if not NAME_PATTERN.fullmatch(name) or not re.fullmatch(r"draft|[1-9][0-9]{0,8}", version):
        raise problem(f"extends is {value[:80]!r}; write a name and a version, as in base@1")
    return value


Id = Annotated[str, AfterValidator(_check_id)]
Name = Annotated[str, AfterValidator(_check_name)]
Version = Annotated[VersionId, BeforeValidator(_check_version)]


class Record(BaseModel):
    """Base of the records here: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Turn(Record):
    """One message of a conversation inside a constitution file."""

    role: Role
    content: Text


def _prompt_form(value: Any) -> str:
    return "turns" if isinstance(value, list | tuple) else "text"


Turns = Annotated[tuple[Turn, ...], AfterValidator(_check_not_empty)]
CasePrompt = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Turns, Tag("turns")], Discriminator(_prompt_form)
]


class Case(Record):
    """A principle's own test: of two answers to a prompt, the one that it must prefer."""

    prompt: CasePrompt
    """The user's words, or a conversation that ends with the user's turn."""
    better: Text
    worse: Text
    tags: tuple[Id, ...] = ()

    @model_validator(mode="after")
    def _check_turns(self) -> Case:
        _check_last_turn(self.messages, "prompt")
        return self

    @property
    def messages(self) -> Conversation:
        """The prompt as a conversation."""
        if isinstance(self.prompt, str):
            return (Message("user", self.prompt),)
        return _conversation(self.prompt)


class Principle(Record):
    """One rule, in the words of each step that can use it; a step whose text it lacks skips it."""

    id: Id
    critique: Text | None = None
    """Asks the model what is wrong with its answer. Goes with `revision`."""
    revision: Text | None = None
    """Asks the model to write the answer anew."""
    compare: Text | None = None
    """Asks a judge which of two answers is better."""
    weight: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    """Share of draws under `sample`, and of the mean under `mean`; relative to the others'."""
    tags: tuple[Id, ...] = ()
    """For filters and rules: `veto` marks a principle that may overrule the rest."""
    cases: tuple[Case, ...] = ()
    title: Text | None = None
    rationale: Text | None = None
    author: Text | None = None
    references: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _check_texts(self) -> Principle:
        if (self.critique is None) != (self.revision is None):
            has, lacks = (
                ("critique", "revision") if self.revision is None else ("revision", "critique")
            )
            raise problem(f"'{self.id}' has '{has}' but no '{lacks}'; add it", has)
        if self.critique is None and self.compare is None:
            raise problem(
                f"'{self.id}' has no text for any step; add 'critique' and 'revision', or 'compare'"
            )
        return self

    def serves(self, step: Step) -> bool:
        """Whether the principle has the texts that a step needs."""
        return (self.critique if step == "critique" else self.compare) is not None


class FewShot(Record):
    """A worked example of one critique and revision, shown to the model before its own."""

    messages: Turns
    response: Text
    critique: Text
    revision: Text

    @model_validator(mode="after")
    def _check_turns(self) -> FewShot:
        _check_last_turn(self.conversation, "messages")
        return self

    @property
    def conversation(self) -> Conversation:
        """The messages that `response` answers."""
        return _conversation(self.messages)


class Provenance(Record):
    """Where an imported constitution comes from."""

    format: Id
    """The form of the file: anthropic-critique, model-spec, …"""
    file: Text
    """The file's name, without its folder."""
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    """Digest of the file's bytes."""
    note: Text | None = None
    """Words of whoever imported it: a licence, an address, a date."""


class Constitution(Record):
    """Principles, and how they combine into one verdict."""

    format: Literal[1] = 1
    name: Name
    version: Version
    title: Text
    extends: Annotated[str, AfterValidator(_check_extends)] | None = None
    """A constitution whose principles come first; one with the same id changes the keys it sets."""
    provenance: Provenance | None = None
    composition: Composition = "sample"
    principles: Annotated[tuple[Principle, ...], AfterValidator(_check_not_empty)]
    few_shot: tuple[FewShot, ...] = ()

    @model_validator(mode="after")
    def _check_principles(self) -> Constitution:
        counts = Counter(principle.id for principle in self.principles)
        seen: set[str] = set()
        for index, principle in enumerate(self.principles):
            if principle.id in seen:
                raise problem(
                    f"the id '{principle.id}' stands {counts[principle.id]} times; "
                    "give each principle its own",
                    *("principles", index, "id"),
                )
            seen.add(principle.id)
        if self.composition == "veto" and not any("veto" in p.tags for p in self.principles):
            raise problem(
                "composition is veto, but no principle may veto; add 'tags: [veto]' to one",
                "composition",
            )
        if self.version != "draft" and (self.extends or "").endswith("@draft"):
            raise problem(
                f"a release cannot extend {self.extends}, which may still change; release that "
                "first and write its number",
                "extends",
            )
        return self

    @property
    def ref(self) -> str:
        """Name and version, as users write them: `harmless@2`."""
        return f"{self.name}@{self.version}"

    @cached_property
    def digest(self) -> str:
        """Digest of the content: name and version, comments, key order and defaults do not count.

        So a key that a later version of the schema adds leaves the digests of older files alone.
        What is inherited counts as if it stood in the file; `extends` itself does not.
        """
        content = self.model_dump(
            mode="json", exclude_defaults=True, exclude={"format", "name", "version", "extends"}
        )
        return digest_json(content)

    def principle(self, id: str) -> Principle:
        """The principle with this id. Raises NotFoundError naming close ids."""
        for principle in self.principles:
            if principle.id == id:
                return principle
        ids = [principle.id for principle in self.principles]
        raise NotFoundError(
            f"no principle '{id[:100]}' in {self.ref}{choices(id, ids)}",
            param="principles",
        )

    def candidates(self, step: Step) -> tuple[Principle, ...]:
        """The principles that can serve a step, in file order; may be none."""
        return tuple([p for p in self.principles if p.serves(step)])


def draw(constitution: Constitution, *, step: Step, seed: int, row: str, index: int) -> Principle:
    """The principle for the `index`-th step of a row: chosen by weight, the same on every call.

    Weighted rendezvous hashing: each candidate draws its own number, so adding a principle moves
    only the rows that the new one wins, and removing one only those that it had.
    Raises ConstitutionError when no principle has the texts that the step needs.
    """
    candidates = constitution.candidates(step)
    if not candidates:
        needs = "'critique' and 'revision'" if step == "critique" else "'compare'"
        raise ConstitutionError(
            f"no principle of {constitution.ref} has {needs}; add them or use another constitution",
            param="constitution",
        )
    drawn_for = f"{seed}|{row}|{index}|".encode("utf-8", "surrogatepass")
    return min(candidates, key=lambda one: (_score(one, drawn_for), one.id))


def _score(principle: Principle, drawn_for: bytes) -> float:
    """An exponential variate of rate `weight`: the smallest of several is each with its share."""
    digest = hashlib.sha256(drawn_for + principle.id.encode()).digest()
    uniform = ((int.from_bytes(digest[:8], "big") >> 11) + 0.5) / 2**53
    return -math.log(uniform) / principle.weight


def _conversation(turns: Sequence[Turn]) -> Conversation:
    return tuple(Message(turn.role, turn.content) for turn in turns)


def _check_last_turn(conversation: Conversation, key: str) -> None:
    if conversation[-1].role != "user":
        raise problem(
            f"'{key}' ends with the turn of the {conversation[-1].role}; end with the user's", key
        )
