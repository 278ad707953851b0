"""What `cai policy show` prints: a policy's record, its events and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cai.policy.records import Ancestor, Lineage, PolicyEvent, PolicyRecord


def details(
    record: PolicyRecord, events: Sequence[PolicyEvent], lineage: Lineage
) -> dict[str, Any]:
    """The answer for machines; `GET /v1/policies/{id}` has the same fields."""
    return {
        **record.model_dump(),
        "events": [one.model_dump(exclude={"policy_id"}) for one in events],
        "lineage": lineage.model_dump(),
    }


def lines(record: PolicyRecord, events: Sequence[PolicyEvent], lineage: Lineage) -> Iterator[str]:
    """The answer for people."""
    yield f"{record.id}  {record.state}, {record.kind}, trained by {record.method}"
    yield f"  digest  {record.digest}"
    yield f"  folder  {record.folder}"
    yield ""
    yield "events"
    for event in events:
        yield f"  {event.at}  {_step(event)}  by {event.actor}: {event.reason}{_figures(event)}"
    yield ""
    yield "lineage"
    for ancestor in lineage.policies:
        yield from _ancestor_lines(ancestor)
    yield f"  base {lineage.base}  {lineage.base_digest or 'without a digest'}"


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
