"""What `cai policy show` prints: a policy's record, events, evaluations, where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cai.evaluate.results import EvalResult
from cai.policy.records import Ancestor, Lineage, PolicyEvent, PolicyRecord


def details(
    record: PolicyRecord,
    events: Sequence[PolicyEvent],
    lineage: Lineage,
    results: Sequence[EvalResult],
) -> dict[str, Any]:
    """The answer for machines; `GET /v1/policies/{id}` has the same fields but `evaluations`."""
    return {
        **record.model_dump(),
        "events": [one.model_dump(exclude={"policy_id"}) for one in events],
        "evaluations": [_evaluation(one, record.digest) for one in results],
        "lineage": lineage.model_dump(),
    }


def lines(
    record: PolicyRecord,
    events: Sequence[PolicyEvent],
    lineage: Lineage,
    results: Sequence[EvalResult],
) -> Iterator[str]:
    """The answer for people."""
    yield f"{record.id}  {record.state}, {record.kind}, trained by {record.method}"
    yield f"  digest  {record.digest}"
    yield f"  folder  {record.folder}"
    yield ""
    yield "events"
    for event in events:
        yield f"  {event.at}  {_step(event)}  by {event.actor}: {event.reason}{_figures(event)}"
    yield ""
    yield "evaluations"
    for result in results:
        rates = _evaluation(result, record.digest).get("rates", {})
        told = ", ".join(f"{suite} {rate['rate']:.1%}" for suite, rate in rates.items())
        yield f"  {result.created_at}  {result.id}  {result.kind}" + (f": {told}" if told else "")
    if not results:
        yield "  none; make one with: cai eval policy " + record.id
    yield ""
    yield "lineage"
    for ancestor in lineage.policies:
        yield from _ancestor_lines(ancestor)
    yield f"  base {lineage.base}  {lineage.base_digest or 'without a digest'}"


def _evaluation(result: EvalResult, digest: str) -> dict[str, Any]:
    """A kept result by its id, with the rates of faults where suites were asked."""
    refs = [one.ref for one in result.policies if one.digest == digest]
    rates = {
        suite: rate
        for suite, told in result.figures.get("suites", {}).items()
        for ref in refs
        if (rate := told.get("policies", {}).get(ref, {}).get("rate"))
    }
    told = {"id": result.id, "kind": result.kind, "created_at": result.created_at}
    return {**told, "rates": rates} if rates else told


def _step(event: PolicyEvent) -> str:
    if event.from_state in (None, event.to_state):
        return event.to_state
    return f"{event.from_state} -> {event.to_state}" + (" (rollback)" if event.is_rollback else "")


def _figures(event: PolicyEvent) -> str:
    if not event.figures:
        return ""
    told = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in event.figures.items()
    )
    return f" ({', '.join(told)})"


def _ancestor_lines(one: Ancestor) -> Iterator[str]:
    known = f"{one.state}, {one.method}, sealed {one.trained_at}" if one.id else "not registered"
    yield f"  {one.id or one.name}  {one.digest or 'without a digest'}  ({known})"
    for source in one.data:
        yield f"    data          {source.name}  {source.digest}  {source.num_rows:,} rows"
    for ref, digest in sorted(one.constitutions.items()):
        yield f"    constitution  {ref}  {digest}"
