"""Reads a scripted engine's rules from a YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cai.errors import EngineError
from cai.types import Prompt, Sampling
from cai.yamlguard import config_error, load_yaml_file, problem, validate


class Rule(BaseModel):
    """Answers when `match` is found in the last message; the first rule that fits wins."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    match: str | None = None
    answer: str | None = None
    scores: dict[str, Annotated[float, Field(le=0.0, allow_inf_nan=False)]] | None = None

    @model_validator(mode="after")
    def _check(self) -> Rule:
        if self.answer is None and not self.scores:
            raise problem("the rule has no answer and no scores; give it one of them")
        try:
            _ = self.pattern
        except re.error as exc:
            raise problem(f"'{self.match}' is no regular expression: {exc}", "match") from exc
        return self

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled `match`; an absent one fits everything."""
        return re.compile(self.match or "")


def _check_not_empty(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    if not rules:
        raise problem("the list of rules is empty; write at least one")
    return rules


class Script(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    rules: Annotated[tuple[Rule, ...], AfterValidator(_check_not_empty)]
    delay_s: Annotated[float, Field(ge=0.0, le=60.0)] = 0.0
    max_context: Annotated[int, Field(ge=1)] | None = None

    def answer(self, prompt: Prompt, sampling: Sampling) -> str:
        """Text of the first rule with an answer whose pattern is found."""
        rule = self._find(prompt, "answer")
        assert rule.answer is not None
        return rule.answer

    def scores(self, prompt: Prompt, labels: Sequence[str]) -> Mapping[str, float]:
        """Label log-probs of the first rule with scores whose pattern is found."""
        rule = self._find(prompt, "scores")
        assert rule.scores is not None
        return rule.scores

    def _find(self, prompt: Prompt, what: str) -> Rule:
        from cai.engine.scripted import last_text

        text = last_text(prompt)
        for rule in self.rules:
            if getattr(rule, what) is not None and rule.pattern.search(text):
                return rule
        raise EngineError(
            f"no rule of the script has {what} for this prompt; add one without match"
        )


def read_script(path: Path) -> Script:
    """Rules from a file. Raises ConfigError with file, line and the way out."""
    return validate(Script, load_yaml_file(path, error=config_error))
