"""What is wrong, or unwise, in a constitution file: findings with a rule id, severity and place.

The rules are in `lint_rules`, the repairs in `lint_fix`. A comment `# lint: allow RULE: reason` in
or above a finding's line answers it, `# lint: allow-file RULE: reason` those of a whole file.
Start from `lint`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.extends import flatten
from cai.constitution.lint_rules import RULES, Checked, Severity
from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore, check_place
from cai.errors import ConstitutionError
from cai.registry import did_you_mean
from cai.yamlguard import Loaded, examine, load_yaml, load_yaml_file

UNREADABLE = frozenset({"yaml", "extends", "schema", "place"})
"""Rules whose findings mean that the file cannot be used at all."""

OWN_RULES = (*sorted(UNREADABLE), "allowed-without-reason", "needless-allow")
"""Rules of this module, beside those of `lint_rules`."""

_MOST_TRIED = 50
"""Lines that may be comments or parts of a text, looked at one by one where some are texts."""

_ALLOW = re.compile(
    r"(?:^|\s)#\s*lint:\s*(?P<form>allow(?:-file)?)\s+(?P<rules>[a-z-]+(?:\s*,\s*[a-z-]+)*)"
    r"(?:\s*:\s*(?P<reason>.*))?$"
)


class Finding(NamedTuple):
    """One remark about a file. Errors make the file unusable or unsafe; warnings are advice.

    `allowed` is the reason that a comment in the file gives, where it gives one.
    """

    rule: str
    severity: Severity
    message: str
    path: Path
    line: int
    column: int
    allowed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For machines; `allowed` only where there is a reason."""
        found = {**self._asdict(), "path": str(self.path)}
        return {key: value for key, value in found.items() if value is not None}


class Allow(NamedTuple):
    """A comment that answers findings."""

    rules: tuple[str, ...]
    reason: str
    line: int
    column: int
    is_own_line: bool
    is_for_file: bool

    def covers(self, finding: Finding) -> bool:
        """Whether the comment speaks of the finding, by its rule and place."""
        if finding.rule not in self.rules:
            return False
        near = (self.line + 1,) if self.is_own_line else (self.line,)
        return self.is_for_file or finding.line in near


def lint(path: Path, *, store: ConstitutionStore | None = None) -> list[Finding]:
    """All findings in one file, by line; of a file that does not parse, what keeps it from that.

    What it extends is looked for in `store`, or in the folder above the file's own.
    """
    path = Path(path)
    try:
        loaded = load_yaml_file(path)
    except ConstitutionError as exc:
        return [_from_error("yaml", path, exc)]
    return lint_loaded(loaded, path, store or ConstitutionStore(path.parent.parent))


def lint_loaded(loaded: Loaded, path: Path, store: ConstitutionStore) -> list[Finding]:
    """Like `lint`, of a file's text that was read already."""
    try:
        flat = flatten(loaded, store.base)
    except ConstitutionError as exc:
        return [_from_error("extends", path, exc)]
    constitution, problems = examine(Constitution, flat)
    if constitution is None:
        return [
            Finding("schema", "error", one.message, path, one.line, one.column) for one in problems
        ]
    findings = list(_misplaced(constitution, flat, path))
    checked = Checked(constitution, flat)
    for rule in RULES:
        for at, message in rule.check(checked):
            line, column = flat.position(at) if at else (1, 1)
            findings.append(Finding(rule.id, rule.severity, message, path, line, column))
    answered = list(_answered(findings, list(_allows(loaded)), path))
    return sorted(answered, key=lambda one: (one.line, one.column, one.rule))


def open_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Those that no comment answers."""
    return [one for one in findings if one.allowed is None]


def _from_error(rule: str, path: Path, exc: ConstitutionError) -> Finding:
    return Finding(rule, "error", exc.reason, path, exc.line or 1, exc.column or 1)


def _misplaced(constitution: Constitution, loaded: Loaded, path: Path) -> Iterator[Finding]:
    try:
        check_place(constitution, loaded)
    except ConstitutionError as exc:
        yield _from_error("place", path, exc)


def _answered(findings: list[Finding], allows: list[Allow], path: Path) -> Iterator[Finding]:
    """The findings with their reasons, and what is wrong with the comments that give them."""
    used: set[Allow] = set()
    for finding in findings:
        covering = [one for one in allows if one.covers(finding)]
        used |= set(covering)
        reason = next((one.reason for one in covering if one.reason), None)
        yield finding._replace(allowed=reason if finding.severity != "error" else None)
    for one in allows:
        if (wrong := _wrong_with(one, is_used=one in used)) is not None:
            yield Finding(wrong[0], "warning", wrong[1], path, one.line, one.column)


def _wrong_with(allow: Allow, *, is_used: bool) -> tuple[str, str] | None:
    """The rule and the words of a complaint about a comment that answers findings."""
    known = rule_ids()
    if unknown := [rule for rule in allow.rules if rule not in known]:
        message = f"there is no rule '{unknown[0]}'{did_you_mean(unknown[0], known)}"
        return "needless-allow", message
    if not is_used:
        return "needless-allow", "nothing here needs it; delete it"
    if not allow.reason:
        return "allowed-without-reason", "gives no reason; write one after the rule and a colon"
    return None


def rule_ids() -> list[str]:
    """Every rule's id, sorted."""
    return sorted([*(rule.id for rule in RULES), *OWN_RULES])


def _allows(loaded: Loaded) -> Iterator[Allow]:
    """The comments that answer findings; what looks like one inside a text is none."""
    lines = loaded.text.splitlines()
    found = {at: match for at, line in enumerate(lines) if (match := _ALLOW.search(line))}
    if not _are_comments(found, lines, loaded):
        some = list(found.items())[:_MOST_TRIED]
        found = {at: match for at, match in some if _are_comments({at: match}, lines, loaded)}
    for at, match in found.items():
        yield Allow(
            rules=tuple(re.split(r"\s*,\s*", match["rules"])),
            reason=(match["reason"] or "").strip(),
            line=at + 1,
            column=match.start() + 1,
            is_own_line=not lines[at][: match.start()].strip(),
            is_for_file=match["form"] == "allow-file",
        )


def _are_comments(found: Mapping[int, re.Match[str]], lines: list[str], loaded: Loaded) -> bool:
    """Whether the file means the same without them."""
    without = [line[: found[at].start()] if at in found else line for at, line in enumerate(lines)]
    try:
        return bool(load_yaml("\n".join(without) + "\n").data == loaded.data)
    except ConstitutionError:
        return False
