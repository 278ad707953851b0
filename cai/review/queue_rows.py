"""Lines of the queue's tables, read and written inside a transaction of the queue's.

Which change is allowed is for `queue.py` to know.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    case,
    func,
    insert,
    select,
    update,
)

from cai.policy.registry_rows import time_now
from cai.review.records import Decision, ItemDraft, Opinion, ReviewItem, judged, priority
from cai.tables import review_decisions as decisions
from cai.tables import review_items as items
from cai.tables import review_leases as leases

COLUMNS = tuple(items.c[name] for name in ReviewItem.model_fields)
"""Those of an item."""


def values_of(draft: ItemDraft) -> dict[str, Any]:
    """The columns of a new item that follow from its content."""
    return {
        **draft.model_dump(),
        "id": draft.id,
        "at": time_now(),
        "p_a": judged(draft.opinions),
        "priority": priority(draft.opinions),
    }


def merge_opinions(connection: Connection, draft: ItemDraft) -> bool:
    """Whether the item is there already; opinions of others than are known are added to it."""
    known = first(connection, select(*COLUMNS).where(items.c.id == draft.id))
    if known is None:
        return False
    who = {(one.kind, one.by) for one in known.opinions}
    more = [one for one in draft.opinions if (one.kind, one.by) not in who]
    if more:
        _update_opinions(connection, known, (*known.opinions, *more))
    return True


def _update_opinions(
    connection: Connection, item: ReviewItem, opinions: Sequence[Opinion], **changed: Any
) -> None:
    votes = [one.choice for one in decided(connection, [item.id])[item.id]]
    values = {
        "opinions": [one.model_dump() for one in opinions],
        "p_a": judged(opinions),
        "priority": priority(opinions, votes),
        **changed,
    }
    connection.execute(update(items).where(items.c.id == item.id).values(values))


def count(connection: Connection, item: ReviewItem, decision: Decision) -> None:
    """Take a decision into account: who skips is not asked again, and does not count."""
    counted = item.num_decided + (decision.choice != "skip")
    _update_opinions(connection, item, item.opinions, num_decided=counted)


def take_decisions(connection: Connection, draft: ItemDraft) -> None:
    """Keep what was decided in another queue by raters who decided nothing here."""
    if not draft.decisions:
        return
    done = {one.rater for one in decided(connection, [draft.id])[draft.id]}
    for told in draft.decisions:
        if told.rater in done:
            continue
        done.add(told.rater)
        decision = Decision(id=new_decision_id(), item_id=draft.id, **told.model_dump())
        connection.execute(insert(decisions).values(decision.model_dump()))
        item = first(connection, select(*COLUMNS).where(items.c.id == draft.id))
        assert item is not None, "the item was put there before its decisions"
        count(connection, item, decision)


def new_decision_id() -> str:
    """An id that no decision has."""
    return "rd-" + secrets.token_hex(12)


def lease(connection: Connection, id: str, rater: str, until: float) -> None:
    """Give an item to a rater, or let them keep it."""
    changed = connection.execute(update(leases).where(is_lease(id, rater)).values({"until": until}))
    if not changed.rowcount:
        values = {"item_id": id, "rater": rater, "until": until}
        connection.execute(insert(leases).values(values))


def leased_to(rater: str, now: float) -> Select[Any]:
    """What a rater has before them."""
    held = select(leases.c.item_id).where(leases.c.rater == rater, leases.c.until > now)
    return select(*COLUMNS).where(items.c.id.in_(held)).order_by(items.c.seq)


def open_to(rater: str, now: float) -> Select[Any]:
    """Items that need raters beyond those that have them now, and not decided by this one."""
    others = (
        select(func.count())
        .where(leases.c.item_id == items.c.id, leases.c.rater != rater, leases.c.until > now)
        .scalar_subquery()
    )
    mine = decisions_of().where(decisions.c.rater == rater)
    needs = items.c.num_decided + others < items.c.target
    return select(*COLUMNS).where(needs, ~mine.exists())


def decisions_of() -> Select[Any]:
    """The decisions of the item of the query around."""
    return select(decisions.c.seq).where(decisions.c.item_id == items.c.id)


def is_lease(id: str, rater: str) -> ColumnElement[bool]:
    """The lease of an item by a rater, run out or not."""
    return (leases.c.item_id == id) & (leases.c.rater == rater)


def as_number(flag: ColumnElement[bool]) -> ColumnElement[int]:
    """1 or 0, for sums and means."""
    return case((flag, 1), else_=0)


def first(connection: Connection, query: Select[Any]) -> ReviewItem | None:
    """The first item that a query finds."""
    row = connection.execute(query.limit(1)).mappings().first()
    return None if row is None else read(row)


def read(row: RowMapping) -> ReviewItem:
    """An item from its columns."""
    return ReviewItem.model_validate(dict(row))


def decided(connection: Connection, ids: Sequence[str]) -> dict[str, list[Decision]]:
    """The decisions of some items, in the order in which they were made."""
    found: dict[str, list[Decision]] = defaultdict(list)
    columns = [decisions.c[name] for name in Decision.model_fields]
    query = select(*columns).where(decisions.c.item_id.in_(ids)).order_by(decisions.c.seq)
    for row in connection.execute(query).mappings():
        found[row["item_id"]].append(Decision.model_validate(dict(row)))
    return found
