"""Results of constitutions' tests, kept per (constitution digest, judge digest), and as JUnit XML.

Start from `ResultStore`; `junit` is what continuous integration reads.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cai.errors import DataError
from cai.evaluate.constitution_tests import FORMAT, CaseResult, TestReport
from cai.files import read_json, replace_json

FOLDER = "constitution-tests"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ResultStore:
    """The results under a home folder: `constitution-tests/<constitution>/<judge>.json`."""

    def __init__(self, home: Path) -> None:
        self._root = Path(home) / FOLDER

    def save(self, report: TestReport, *, at: datetime | None = None) -> Path:
        """Keep a report in place of that judge's last one on the same constitution."""
        path = self._folder(report.digest) / f"{_hex(report.judge_digest)}.json"
        when = (at or datetime.now(UTC)).isoformat(timespec="seconds")
        replace_json(path, {**report.as_dict(), "at": when})
        return path

    def of(self, constitution_digest: str) -> list[dict[str, Any]]:
        """Every judge's report on a constitution, the latest first; unreadable ones are skipped."""
        found = []
        for path in sorted(self._folder(constitution_digest).glob("*.json")):
            try:
                report = read_json(path)
            except DataError:
                continue
            if isinstance(report, dict) and report.get("format") == FORMAT:
                found.append(report)
        return sorted(found, key=lambda one: str(one.get("at")), reverse=True)

    def before(self, report: TestReport) -> dict[str, Any] | None:
        """What the last other judge said of the same constitution."""
        for kept in self.of(report.digest):
            if kept["judge"]["digest"] != report.judge_digest:
                return kept
        return None

    def _folder(self, digest: str) -> Path:
        return self._root / _hex(digest)


def told_before(before: Mapping[str, Any] | None) -> dict[tuple[str, str], bool]:
    """Whether each case held with an earlier judge, by (part, key): part is `cases` or `whole`."""
    if before is None:
        return {}
    return {
        (part, one["key"]): bool(one["passed"])
        for part in ("cases", "whole")
        for one in before[part]
    }


def junit(report: TestReport) -> str:
    """The report as JUnit XML: a suite per principle, one for the whole, one for contradictions."""
    suites = ET.Element("testsuites", name=_clean(report.ref))
    by_principle: dict[str, list[CaseResult]] = {}
    for one in report.cases:
        by_principle.setdefault(one.principle, []).append(one)
    for principle, results in by_principle.items():
        _suite(suites, f"{report.ref}.{principle}", [_tested(one) for one in results])
    whole = [_tested(one, of=one.principle) for one in report.whole]
    _suite(suites, f"{report.ref}.whole", whole)
    found = [
        (f"{one.first} and {one.second}", "contradict on each other's cases")
        for one in report.contradictions
    ]
    _suite(
        suites, f"{report.ref}.contradictions", found or [("no two principles contradict", None)]
    )
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def verdict(result: CaseResult) -> str:
    """How a case went, in figures.

    >>> verdict(CaseResult("a", 1, "k", "p", False, 0.75, 0.25))
    'P(better) 0.500; 0.750 shown first, 0.250 shown second'
    """
    if result.p_ab is None or result.p_ba is None or result.p_better is None:
        return f"no verdict: {result.problem}"
    return (
        f"P(better) {result.p_better:.3f}; {result.p_ab:.3f} shown first, "
        f"{result.p_ba:.3f} shown second"
    )


def _tested(one: CaseResult, of: str | None = None) -> tuple[str, str | None]:
    name = f"{of + ' ' if of else ''}case {one.number}: {one.prompt}"
    return name, None if one.passed else verdict(one)


def _suite(parent: ET.Element, name: str, tests: Iterable[tuple[str, str | None]]) -> None:
    listed = list(tests)
    failures = sum(failure is not None for _, failure in listed)
    suite = ET.SubElement(
        parent, "testsuite", name=_clean(name), tests=str(len(listed)), failures=str(failures)
    )
    for test, failure in listed:
        case = ET.SubElement(suite, "testcase", classname=_clean(name), name=_clean(test))
        if failure is not None:
            ET.SubElement(case, "failure", message=_clean(failure))


def _clean(text: str) -> str:
    return _NOT_XML.sub("", text)


def _hex(digest: str) -> str:
    return re.sub(r"[^0-9a-zA-Z]", "", digest.removeprefix("sha256:"))
