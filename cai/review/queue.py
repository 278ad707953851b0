"""The queue: what is to be reviewed, who has what before them, and what was decided.

Raters get the items that teach most first, and between them, in their share, those of a random
sample in an order of its own: what was decided of these is unbiased at any time. An item is before
no more raters than it still needs. Start from `ReviewQueue`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, insert, select

from cai.db import Database
from cai.errors import ConflictError, InputError, NotFoundError
from cai.policy.registry_rows import time_now
from cai.review import queue_rows as rows
from cai.review.records import (
    MAX_TARGET,
    Choice,
    Decision,
    Given,
    ItemDraft,
    Reviewed,
    ReviewItem,
    Shown,
    as_shown,
    hashed,
    is_swapped,
)
from cai.tables import review_decisions as decisions
from cai.tables import review_items as items
from cai.tables import review_leases as leases

LEASE_S: Final = 900.0
"""Seconds for which an item stays with a rater who says nothing."""
RANDOM_SHARE: Final = 0.2
"""Share of the items that is drawn without regard to any opinion."""

_QUEUE = 2
_BATCH = 500


class Added(NamedTuple):
    """How many items an import brought, and how many were there already."""

    new: int
    known: int


class Page(NamedTuple):
    """Some items with their decisions, oldest first, and whether more follow."""

    records: tuple[Reviewed, ...]
    has_more: bool


class ReviewQueue:
    """The queue in one database. Calls block; each is one transaction, `add` some.

    `clock` gives seconds since 1970.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        drafts: Iterable[ItemDraft],
        *,
        source: str,
        actor: str,
        target: int = 1,
        random_share: float = RANDOM_SHARE,
        seed: int = 0,
        with_decisions: bool = False,
    ) -> Added:
        """Put items in the queue; one that is there gets what it lacks, and no more.

        `target` raters are wanted for each. The random share is drawn by a hash of seed and item.
        What was decided in another queue counts as decided with `with_decisions`, which whoever
        may write decisions of others may set; else as an opinion.
        """
        _check(target, random_share)
        told = {"source": source, "actor": actor, "target": target, "num_decided": 0}
        left, num_new, num_known = iter(drafts), 0, 0
        while batch := list(islice(left, _BATCH)):
            with self._changing() as connection:
                for draft in batch if with_decisions else [one.as_opinions() for one in batch]:
                    if rows.merge_opinions(connection, draft):
                        num_known += 1
                    else:
                        num_new += 1
                        drawn = _drawn(draft, random_share, seed)
                        values = rows.values_of(draft) | told | drawn
                        connection.execute(insert(items).values(values))
                    rows.take_decisions(connection, draft)
        return Added(num_new, num_known)

    def next(self, rater: str, *, lease_s: float = LEASE_S) -> Shown | None:
        """What the rater is to look at: what they have already, else the next; None at the end.

        It stays theirs for `lease_s` seconds, and as long again when they ask once more.
        """
        now = self._clock()
        with self._changing() as connection:
            item = rows.first(connection, rows.leased_to(rater, now)) or self._choose(
                connection, rater, now
            )
            if item is None:
                return None
            rows.lease(connection, item.id, rater, now + lease_s)
        swapped = is_swapped(item.id, rater)
        answers = item.answers[::-1] if swapped else item.answers
        return Shown(item.id, item.kind, item.prompt, answers, now + lease_s)

    def decide(self, id: str, rater: str, given: Given) -> Decision:
        """Keep what a rater says of the item before them.

        Raises NotFoundError for no item, InputError where it cannot be said of one of its kind, and
        ConflictError where the rater was not given it, has decided it, or came too late.
        """
        with self._changing() as connection:
            item = rows.first(connection, select(*rows.COLUMNS).where(items.c.id == id))
            if item is None:
                raise NotFoundError(
                    f"there is no review item '{id[:80]}'; take one with next", param="id"
                )
            choice = _checked_choice(item, given)
            self._check_turn(connection, item, rater)
            swapped = item.kind == "pair" and is_swapped(id, rater)
            decision = Decision(
                id=rows.new_decision_id(),
                item_id=id,
                rater=rater,
                at=time_now(),
                choice=as_shown(choice, swapped),
                rating=given.rating,
                comment=(given.comment or "").strip() or None,
                is_swapped=swapped,
            )
            connection.execute(insert(decisions).values(decision.model_dump()))
            connection.execute(leases.delete().where(rows.is_lease(id, rater)))
            rows.count(connection, item, decision)
        return decision

    def page(
        self, *, after: str | None = None, limit: int = 100, only_decided: bool = True
    ) -> Page:
        """Items in the order of their import; `after` is the id of the last of the page before."""
        query = select(*rows.COLUMNS).order_by(items.c.seq).limit(limit + 1)
        if only_decided:
            query = query.where(rows.decisions_of().exists())
        with self._database.read() as connection:
            if after is not None:
                place = connection.scalar(select(items.c.seq).where(items.c.id == after))
                if place is None:
                    raise NotFoundError(f"there is no review item '{after[:80]}'", param="after")
                query = query.where(items.c.seq > place)
            found = [rows.read(row) for row in connection.execute(query).mappings()]
            made = rows.decided(connection, [one.id for one in found[:limit]])
        records = tuple(Reviewed(one, tuple(made[one.id])) for one in found[:limit])
        return Page(records, len(found) > limit)

    def reviewed(self) -> Iterator[Reviewed]:
        """Every item with a decision, some at a time."""
        after: str | None = None
        while True:
            records, has_more = self.page(after=after, limit=_BATCH)
            yield from records
            if not has_more:
                return
            after = records[-1].item.id

    def counts(self) -> dict[str, int]:
        """How many items there are, need raters still, and are before one now."""
        is_random = (items.c.is_random, items.c.num_decided < items.c.target)
        with self._database.read() as connection:
            groups = connection.execute(select(*is_random, func.count()).group_by(*is_random)).all()
            held = select(func.count()).where(leases.c.until > self._clock())
            num_held = connection.scalar(held) or 0
        return {
            "items": sum(n for *_, n in groups),
            "random": sum(n for random, _, n in groups if random),
            "open": sum(n for _, is_open, n in groups if is_open),
            "open_random": sum(n for random, is_open, n in groups if random and is_open),
            "leased": num_held,
        }

    def _choose(self, connection: Connection, rater: str, now: float) -> ReviewItem | None:
        """The next of the random share, as often as its part of all items, else the most telling.

        Where one of the two is used up the other goes on.
        """
        share = connection.scalar(select(func.avg(rows.as_number(items.c.is_random)))) or 0.0
        done = connection.scalar(select(func.count()).where(decisions.c.rater == rater))
        is_random = hashed("turn", rater, done) < float(share)
        for wanted in (is_random, not is_random):
            query = rows.open_to(rater, now).where(items.c.is_random == wanted)
            order = () if wanted else (items.c.priority.desc(),)
            found = rows.first(connection, query.order_by(*order, items.c.place, items.c.seq))
            if found is not None:
                return found
        return None

    def _check_turn(self, connection: Connection, item: ReviewItem, rater: str) -> None:
        mine = (decisions.c.item_id == item.id, decisions.c.rater == rater)
        decided_at = connection.scalar(select(decisions.c.at).where(*mine))
        if decided_at is not None:
            raise ConflictError(f"'{rater}' decided this item already, at {decided_at}")
        until = connection.scalar(select(leases.c.until).where(rows.is_lease(item.id, rater)))
        if until is None:
            raise ConflictError(f"this item was not given to '{rater}'; take one with next")
        now = self._clock()
        if until > now:
            return
        others = select(func.count()).where(
            leases.c.item_id == item.id, leases.c.rater != rater, leases.c.until > now
        )
        if item.num_decided + (connection.scalar(others) or 0) >= item.target:
            raise ConflictError(
                "the lease of this item ran out and others have it now; take one with next"
            )

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self._database.begin() as connection:
            self._database.queue_up(connection, _QUEUE)
            yield connection


def _drawn(draft: ItemDraft, random_share: float, seed: int) -> dict[str, object]:
    is_random = hashed("random", seed, draft.id) < random_share
    return {
        "place": hashed("place", seed, draft.id),
        "is_random": is_random if draft.is_random is None else draft.is_random,
    }


def _check(target: int, random_share: float) -> None:
    if not 1 <= target <= MAX_TARGET:
        raise InputError(f"target is {target}; give 1 to {MAX_TARGET} raters", param="target")
    if not 0 <= random_share <= 1:  # NaN compares false
        raise InputError(
            f"random_share is {random_share:g}; give a share from 0 to 1", param="random_share"
        )


def _checked_choice(item: ReviewItem, given: Given) -> Choice:
    if given.choice is None:
        wanted = "a, b, tie or skip" if item.kind == "pair" else "a rating from 1 to 5, or skip"
        raise InputError(f"say what of the item: {wanted}", param="choice")
    if given.choice == "skip" and given.rating is None:
        return "skip"
    if item.kind == "rating" and (given.choice != "rating" or given.rating is None):
        raise InputError("this item is one answer; give a rating from 1 to 5", param="rating")
    if item.kind == "pair" and (given.choice == "rating" or given.rating is not None):
        raise InputError("this item is a pair; choose a, b, tie or skip", param="choice")
    return given.choice
