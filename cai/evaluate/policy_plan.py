"""What an evaluation of policies is to measure, and whether it can be measured at all.

Start from `Plan`; `Plan.check` refuses what cannot be, before any engine is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from cai.constitution.schema import Constitution, Principle
from cai.errors import ConfigError, NotFoundError
from cai.evaluate.results import EvalResult, JudgeRef
from cai.evaluate.suite_answers import AskConfig
from cai.evaluate.suites import ReadySuite, find_suite
from cai.policy.address import folder_of
from cai.registry import choices

_SCHEMES: Final = ("vllm", "policy", "http", "https", "scripted")


@dataclass(frozen=True)
class Plan:
    """What is to be measured. `suites` empty means those that fit the first policy's world."""

    policies: tuple[str, ...]
    suites: tuple[str, ...] = ()
    judge: str | None = None
    constitution: Constitution | None = None
    ask: AskConfig = field(default_factory=AskConfig)
    limit: int | None = None
    with_oracle: bool = False
    text_only: bool = False
    """Leave judges' checks undecided."""

    def check(self) -> None:
        """Raise for a policy, a suite or a principle that is not there, and for no judge."""
        for ref in self.policies:
            check_policy(ref)
        if len(set(self.policies)) < len(self.policies):
            raise ConfigError("a policy is named twice; name each once", param="policies")
        for name in self.suites:
            self.check_suite(self.ready(name))

    def settings(self) -> dict[str, Any]:
        """Everything else that decides the figures, as it is kept with them."""
        return {
            **self.ask._asdict(),
            "limit": self.limit,
            "with_oracle": self.with_oracle,
            "text_only": self.text_only,
        }

    def is_plan_of(self, result: EvalResult) -> bool:
        """Whether a kept result is what this plan would measure anew, if its weights are the same.

        Those are for `policy_eval.check_unchanged`, since it takes engines to say.
        """
        return (
            result.kind == "policy"
            and tuple(one.ref for one in result.policies) == self.policies
            and result.settings == self.settings()
            and self._has_suites_of(result)
            and (result.judge is None or self._is_judge(result.judge))
        )

    def _has_suites_of(self, result: EvalResult) -> bool:
        kept = {one.name: one.digest for one in result.suites}
        try:
            asked = [self.ready(name) for name in self.suites or kept]
        except NotFoundError:
            return False  # a shipped suite that is no more
        return kept == {ready.suite.name: ready.digest for ready in asked}

    def _is_judge(self, judge: JudgeRef) -> bool:
        digest = None if self.constitution is None else self.constitution.digest
        return (judge.address, judge.constitution_digest) == (self.judge, digest)

    def ready(self, name: str) -> ReadySuite:
        """A suite with its prompts. Raises NotFoundError, ConfigError."""
        return find_suite(name).ready(limit=self.limit)

    def check_suite(self, ready: ReadySuite) -> None:
        """Raise ConfigError unless its checks can be decided."""
        suite = ready.suite
        if not suite.needs_judge or self.text_only:
            return
        if self.judge is None:
            raise ConfigError(
                f"the suite '{suite.name}' has checks by a judge; name one with --judge ADDR, or "
                "leave them undecided with --text-only",
                param="judge",
            )
        self.principles(suite.principles())

    def principles(self, ids: set[str]) -> dict[str, Principle]:
        """The constitution's principles by id. Raises ConfigError for one that it lacks."""
        if not ids:
            return {}
        if self.constitution is None:
            raise ConfigError(
                f"checks name the principles {', '.join(sorted(ids))}: say of which constitution "
                "with -c REF",
                param="constitution",
            )
        known = {one.id: one for one in self.constitution.candidates("compare")}
        for id in sorted(ids - set(known)):
            raise ConfigError(
                f"{self.constitution.ref} has no principle '{id}' that compares"
                f"{choices(id, known)}",
                param="constitution",
            )
        return {id: known[id] for id in ids}


def address_of(ref: str) -> str:
    """The engine's address of a policy, which may be an address itself."""
    is_address = ref == "sandbox" or ref.partition(":")[0].lower() in _SCHEMES
    return ref if is_address else f"policy:{ref}"


def check_policy(ref: str) -> None:
    """Raise NotFoundError, ConfigError for a policy that is not there."""
    scheme, _, rest = (address := address_of(ref)).partition(":")
    if scheme == "policy":
        folder_of(rest)
    elif not rest and address != "sandbox":
        raise ConfigError(f"'{ref}' is no policy and no engine's address", param="policies")
