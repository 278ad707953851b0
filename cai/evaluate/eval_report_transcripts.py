"""The same prompts under two policies, side by side: those whose outcomes differ come first.

Reads the answers and verdicts that evaluations keep. Pure functions. Start from `side_by_side`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cai.evaluate.eval_report_sources import KeptResult

Key = tuple[str, str, str]


class _Side(NamedTuple):
    run: str
    policy: str
    prompt: list[dict[str, str]]
    answer: str
    outcome: str | None


def side_by_side(
    results: Sequence[KeptResult], baseline: KeptResult | None, *, limit: int
) -> list[dict[str, Any]]:
    """Pairs of answers to one prompt: of the baseline's policy and another, else of two of a run.

    First those that one failed and the other passed, then those that both failed, then others that
    differ. Answers that are the same are left out.
    """
    found = []
    for result in results:
        if baseline is not None and result.result.id == baseline.result.id:
            continue
        for key, sides in _sides(result).items():
            others = _sides(baseline).get(key, []) if baseline is not None else sides[:1]
            for one in sides if baseline is not None else sides[1:]:
                found += [_pair(key, other, one) for other in others if _differ(other, one)]
    return sorted(found, key=_interest)[:limit]


def _sides(kept: KeptResult) -> dict[Key, list[_Side]]:
    """The first sample of each prompt by every policy, in the order of the file."""
    outcomes = {
        (_key(line), str(line.get("policy"))): line.get("outcome")
        for line in kept.lines.get("verdicts.jsonl", [])
    }
    found: dict[Key, list[_Side]] = {}
    for line in kept.lines.get("answers.jsonl", []):
        messages = line.get("messages") or []
        if not messages or messages[-1].get("role") != "assistant":
            continue  # its engine gave no answer
        key, policy = _key(line), str(line.get("policy"))
        side = _Side(
            run=kept.result.id,
            policy=policy,
            prompt=messages[:-1],
            answer=str(messages[-1].get("content", "")),
            outcome=outcomes.get((key, policy)),
        )
        found.setdefault(key, []).append(side)
    return found


def _key(line: dict[str, Any]) -> Key:
    return str(line.get("suite")), str(line.get("prompt")), str(line.get("sample"))


def _differ(one: _Side, other: _Side) -> bool:
    return one.prompt == other.prompt and one.answer != other.answer


def _pair(key: Key, first: _Side, second: _Side) -> dict[str, Any]:
    return {
        "suite": key[0],
        "id": key[1],
        "prompt": first.prompt,
        "answers": [dict(_told(side)) for side in (first, second)],
    }


def _told(side: _Side) -> Iterator[tuple[str, str]]:
    yield from (("run", side.run), ("policy", side.policy), ("answer", side.answer))
    if side.outcome is not None:
        yield "outcome", side.outcome


def _interest(pair: dict[str, Any]) -> int:
    outcomes = [answer.get("outcome") for answer in pair["answers"]]
    if set(outcomes) == {"failed", "passed"}:
        return 0
    return 1 if "failed" in outcomes else 2
