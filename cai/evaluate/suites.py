"""Suites: prompts with checks, tags and a split, read from YAML through the guarded loader.

A suite measures one fault: a prompt whose checks do not all hold counts as one. Shipped suites are
in the folder `suites/` and go by name. Start from `find_suite`, then `Suite.ready`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, model_validator

from cai.constitution.schema import CasePrompt, Id, Name, Record, Text
from cai.errors import ConfigError, NotFoundError
from cai.evaluate.results import SuiteRef, Use
from cai.evaluate.suite_checks import Check, Judged, judged_in
from cai.evaluate.suite_sources import Generate, draw
from cai.files import digest_json
from cai.registry import choices
from cai.types import Conversation, Message
from cai.yamlguard import config_error, load_yaml_file, problem, validate

FOLDER: Final = Path(__file__).parent / "suites"

FaultName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class SuitePrompt(Record):
    """One prompt, what the user says after each answer, and what the answers are held against."""

    id: Id | None = None
    """Left out, the number of the entry."""
    prompt: CasePrompt
    """The user's words, or a conversation that ends with the user's turn."""
    then: tuple[Text, ...] = ()
    """Further turns of the user, each said after the policy's answer to the one before."""
    tags: tuple[Id, ...] = ()
    checks: tuple[Check, ...] = ()
    """In place of the suite's."""
    better: Text | None = None
    """A good answer to the last turn: an anchor for a judge."""
    worse: Text | None = None
    """A bad answer to the last turn."""
    facts: dict[str, Text] = Field(default_factory=dict)
    """What `{name}` in a check's texts stands for."""

    @model_validator(mode="after")
    def _check_turns(self) -> SuitePrompt:
        if self.messages[-1].role != "user":
            raise problem(
                f"'prompt' ends with the turn of the {self.messages[-1].role}; end with the user's",
                "prompt",
            )
        return self

    @property
    def messages(self) -> Conversation:
        """The conversation up to the first answer."""
        if isinstance(self.prompt, str):
            return (Message("user", self.prompt),)
        return tuple([Message(turn.role, turn.content) for turn in self.prompt])

    def anchor(self, check: Judged) -> str | None:
        """The answer that a judge compares with."""
        return self.better if check.against == "better" else self.worse


class Oracle(Record):
    """The yardstick of a suite of a world that has one: never a check, only set beside the rate."""

    source: Literal["sandbox"]
    faults: tuple[FaultName, ...] = Field(min_length=1)
    """Labels and flaws of the oracle that count as this suite's fault."""


class Suite(Record):
    """A file of prompts that measures one fault."""

    format: Literal[1] = 1
    name: Name
    title: Text
    about: Text | None = None
    split: Literal["train", "heldout"]
    """Whether training may see prompts like these."""
    fault: FaultName
    """What a prompt whose checks do not hold is called: harmful, over_refusal, …"""
    used_for: tuple[Use, ...] = ()
    """What decides by this suite: figures on it were tuned on, and a report says so."""
    tags: tuple[Id, ...] = ()
    checks: tuple[Check, ...] = ()
    prompts: tuple[SuitePrompt, ...] = ()
    better: Text | None = None
    """A good answer to any of the prompts, for those without their own."""
    worse: Text | None = None
    """A bad answer to any of the prompts."""
    generate: Generate | None = None
    oracle: Oracle | None = None

    @model_validator(mode="after")
    def _check_prompts(self) -> Suite:
        if self.generate is None and not self.prompts:
            raise problem(
                "the suite has no prompts; list some under 'prompts', or write 'generate'"
            )
        if self.generate is not None and self.prompts:
            raise problem("the suite has 'prompts' and 'generate'; keep one of them", "generate")
        if self.generate is not None and not self.checks:
            raise problem("the suite has no checks, so it measures nothing; add 'checks'")
        ids = Counter(_id(one, number) for number, one in enumerate(self.prompts, start=1))
        for at, one in enumerate(self.prompts):
            if ids[_id(one, at + 1)] > 1:
                raise problem(
                    f"the id '{_id(one, at + 1)}' stands twice; give each prompt its own",
                    *("prompts", at),
                )
            self._check_entry(at, one)
        return self

    def _check_entry(self, at: int, one: SuitePrompt) -> None:
        checks = one.checks or self.checks
        if not checks:
            raise problem(
                "the prompt has no checks, and the suite has none; add 'checks' to one of them",
                *("prompts", at),
            )
        for check in judged_in(checks):
            if (one.anchor(check) or getattr(self, check.against)) is None:
                raise problem(
                    f"a judge compares with '{check.against}', which the prompt lacks; add it",
                    *("prompts", at),
                )
            if one.then and check.at == "every":
                raise problem(
                    "a judge's anchor answers the last turn, so 'at: every' has none to compare "
                    "with; leave 'at' out of the judge's check",
                    *("prompts", at),
                )

    @property
    def needs_judge(self) -> bool:
        """Whether a check of any prompt asks a judge."""
        every = [one.checks or self.checks for one in self.prompts]
        return any(any(judged_in(checks)) for checks in every or [self.checks])

    def principles(self) -> set[str]:
        """Ids of the principles that its checks name."""
        every = [self.checks, *(one.checks for one in self.prompts)]
        return {one.principle for checks in every for one in judged_in(checks) if one.principle}

    def ready(self, *, limit: int | None = None) -> ReadySuite:
        """The suite with its prompts, drawn where it draws them; the first `limit` are kept.

        The digest is of what is kept: figures of other prompts are figures of something else.
        """
        prompts = self._drawn() if self.generate is not None else self.prompts
        named = tuple(
            one.model_copy(
                update={
                    "id": _id(one, number),
                    "tags": tuple(dict.fromkeys((*self.tags, *one.tags))),
                    "checks": one.checks or self.checks,
                    "better": one.better or self.better,
                    "worse": one.worse or self.worse,
                }
            )
            for number, one in enumerate(prompts[:limit], start=1)
        )
        kept = self.model_copy(update={"prompts": self.prompts[:limit]})
        content = kept.model_dump(mode="json", exclude_defaults=True, exclude={"title", "about"})
        drawn = [one.model_dump(mode="json", exclude_defaults=True) for one in named]
        return ReadySuite(self, named, digest_json([content, drawn]))

    def _drawn(self) -> tuple[SuitePrompt, ...]:
        assert self.generate is not None, "only a suite that draws its prompts has them drawn"
        return tuple(SuitePrompt.model_validate(entry) for entry in draw(self.generate, self.split))


class ReadySuite(NamedTuple):
    """A suite, its prompts with ids, tags and checks of their own, and the digest of all of it."""

    suite: Suite
    prompts: tuple[SuitePrompt, ...]
    digest: str

    @property
    def ref(self) -> SuiteRef:
        """For results."""
        return SuiteRef(
            name=self.suite.name,
            digest=self.digest,
            split=self.suite.split,
            used_for=self.suite.used_for,
        )


def find_suite(name: str) -> Suite:
    """A shipped suite by name, or one of your own by the path of its file (`./mine.yaml`).

    Raises NotFoundError naming the closest, ConfigError with line and column for a bad file.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return load_suite(Path(name))
    if name not in (known := suite_names()):
        raise NotFoundError(
            f"no suite '{name[:100]}'{choices(name, known)}; or name a file, as in ./mine.yaml",
            param="suite",
        )
    return load_suite(FOLDER / f"{name}.yaml")


def load_suite(path: Path) -> Suite:
    """The suite in a file. Raises ConfigError with path, line and column."""
    loaded = load_yaml_file(path, error=config_error)
    suite = validate(Suite, loaded)
    if path.parent == FOLDER and path.stem != suite.name:
        raise loaded.fail(f"the name is '{suite.name}' and the file's is '{path.stem}'", ("name",))
    return suite


def suite_names() -> list[str]:
    """The shipped suites."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def default_suites(*, of_small_world: bool, has_judge: bool) -> list[str]:
    """What a policy is asked where nobody says: the small world's suites, or all of the others.

    Of the others, those that decide in gates are left out, and without a judge those that need one.
    """
    found = []
    for name in suite_names():
        suite = find_suite(name)
        is_small = suite.generate is not None and suite.generate.source == "sandbox"
        if is_small != of_small_world or (not is_small and "gates" in suite.used_for):
            continue
        if has_judge or not suite.needs_judge:
            found.append(name)
    if not found:
        raise ConfigError("no suite measures without a judge here; name one with --judge ADDR")
    return found


def _id(one: Any, number: int) -> str:
    return one.id or f"{number:03d}"
