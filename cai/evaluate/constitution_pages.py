"""HTML pages of a constitution: published, compared with another, and its impact previewed.

Start from `published_page`, `diff_page` or `impact_page`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cai.constitution.diff import ConstitutionDiff
from cai.constitution.schema import Constitution
from cai.evaluate.constitution_tests import CaseRef, cases_of
from cai.evaluate.demo_report import percent
from cai.evaluate.diff import word_diff
from cai.evaluate.impact import Impact
from cai.evaluate.impact_report import impact_dict
from cai.evaluate.pages import render_page


def published_page(
    constitution: Constitution,
    *,
    history: Sequence[ConstitutionDiff] = (),
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    """A constitution for everyone to read: principles, reasons, cases, results, changes.

    `history` leads from each release to the next, the oldest first; `results` are judges' reports
    as `ResultStore.of` gives them, the latest first.
    """
    refs = list(cases_of(constitution))
    return render_page(
        "constitution.html.j2",
        constitution=constitution,
        results=results,
        cases={
            principle.id: _told(principle.id, refs, results)
            for principle in constitution.principles
        },
        history=[(diff, _words(diff)) for diff in reversed(history)],
        percent=percent,
    )


def diff_page(diff: ConstitutionDiff) -> str:
    """What changed, principle by principle, with the words that came and went."""
    return render_page("constitution_diff.html.j2", diff=diff, words=_words(diff))


def impact_page(impact: Impact) -> str:
    """What a change would do: flips by principle with examples, and how revisions differ."""
    revisions = [
        (one, word_diff(one.old.answer, one.new.answer))
        for one in impact.revisions
        if one.old.answer != one.new.answer
    ]
    return render_page(
        "impact.html.j2",
        impact=impact,
        shown=impact_dict(impact),
        words=_words(impact.diff),
        diff=impact.diff,
        revisions=revisions,
        percent=percent,
    )


def _words(diff: ConstitutionDiff) -> dict[tuple[str, str], Any]:
    """The word diff of each changed text, by principle (or nothing) and key."""
    owners = [("", diff.changes), *((one.id, one.changes) for one in diff.principles)]
    return {
        (owner, change.key): word_diff(change.old, change.new)
        for owner, changes in owners
        for change in changes
        if change.is_text
    }


def _told(
    principle: str, refs: Sequence[CaseRef], results: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, list[tuple[str, bool]]]]:
    """The cases of a principle, each with what every judge said of it."""
    told = []
    for ref in refs:
        if ref.principle != principle:
            continue
        verdicts = [
            (str(report["judge"]["model"]), bool(one["passed"]))
            for report in results
            for one in report["cases"]
            if one["key"] == ref.key
        ]
        told.append((ref.case, verdicts))
    return told
