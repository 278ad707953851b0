"""The registry: which policies there are, what became of each, and which one is live.

Never two are: the database itself refuses a second, whoever writes to it. Knows folders and the
database; nothing of engines. Start from `PolicyRegistry`; `records.py` has the states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from cai.db import Database
from cai.errors import ConflictError, NotFoundError, PolicyError
from cai.files import digest_file
from cai.policy import registry_rows as rows
from cai.policy.lineage import predecessor, trace
from cai.policy.manifest import NAME as MANIFEST
from cai.policy.manifest import verify
from cai.policy.records import Lineage, PolicyEvent, PolicyRecord, State
from cai.policy.resolve import FOLDER
from cai.policy.roots import Roots
from cai.registry import choices
from cai.tables import policies, policy_events

Figures = Mapping[str, Any]

LIVE: Final = "live"
"""Stands for the policy that is live."""

_QUEUE = 1


class Page(NamedTuple):
    """Some policies, newest first, and whether older ones follow."""

    records: tuple[PolicyRecord, ...]
    has_more: bool


class PolicyRegistry:
    """The policies of one home folder. Each call is one transaction, and blocks: it is for threads.

    `roots` are folders beside `home` below which policies may lie.
    """

    def __init__(self, database: Database, home: Path, *, roots: Sequence[Path] = ()) -> None:
        self._database = database
        self._roots = Roots(home, roots)

    def add(self, folder: Path, *, actor: str, again: bool = False) -> PolicyRecord:
        """Register the sealed policy in `folder`, as a candidate; the same one again is known.

        The id is its name, with a part of its digest when that is taken. `again` makes a rejected
        one a candidate once more. Raises InputError for a path outside the home folder and the
        roots, PolicyError when the folder is not what was sealed, every byte of it.
        """
        path = self._roots.checked(folder)
        manifest = verify(path)
        if not rows.is_id(manifest.name):
            raise PolicyError(
                f"the name '{manifest.name[:80]}' of the policy cannot be registered: use up to 64 "
                "small letters, digits, '.', '_' and '-'"
            )
        seal = digest_file(path / MANIFEST)
        same = (policies.c.digest == manifest.digest, policies.c.manifest_digest == seal)
        with self._changing() as connection:
            known = rows.first(connection, select(*rows.COLUMNS).where(*same))
            if known is None:
                told = self._roots.told(path)
                id = rows.insert_policy(connection, manifest, seal, folder=told, actor=actor)
                return self._get(connection, id)
            known = self._followed(connection, known, path)
            if again and known.state == "rejected":
                return rows.move(connection, known, "candidate", "added again", {}, actor)
            return known

    def get(self, ref: str) -> PolicyRecord:
        """A policy by its id, by eight digits of its digest or more, or as `live`."""
        with self._database.read() as connection:
            return self._get(connection, ref)

    def list(
        self, state: State | None = None, *, after: str | None = None, limit: int = 100
    ) -> Page:
        """Policies, newest first; `after` is the id of the last one of the page before."""
        query = select(*rows.COLUMNS).order_by(policies.c.seq.desc()).limit(limit + 1)
        if state is not None:
            query = query.where(policies.c.state == state)
        with self._database.read() as connection:
            if after is not None:
                last = select(policies.c.seq).where(policies.c.id == after)
                place = connection.scalar(last) if rows.is_id(after) else None
                if place is None:
                    raise NotFoundError(f"there is no policy '{after[:100]}'", param="after")
                query = query.where(policies.c.seq < place)
            found = [rows.record_of(row) for row in connection.execute(query).mappings()]
        return Page(tuple(found[:limit]), len(found) > limit)

    def events(self, id: str) -> tuple[PolicyEvent, ...]:
        """Everything that became of a policy, oldest first."""
        query = select(policy_events).where(policy_events.c.policy_id == id)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(policy_events.c.seq)).mappings()
            return tuple(rows.event_of(row) for row in found)

    def lineage(self, id: str) -> Lineage:
        """The policy, its parents up to the base, and the data and constitutions of each."""
        with self._database.read() as connection:
            return trace(connection, self._get(connection, id).id)

    def path(self, record: PolicyRecord) -> Path:
        """The folder of a policy, whether it is still there or not. Raises as `add`."""
        return self._roots.path(record.folder)

    def live(self) -> PolicyRecord | None:
        """The policy that is live, if one is."""
        with self._database.read() as connection:
            return rows.find(connection, LIVE)

    def promotable(self, id: str) -> PolicyRecord:
        """A policy that may go live once it is verified. Raises ConflictError for any other."""
        with self._database.read() as connection:
            record = self._get(connection, id)
            if record.kind == "reward" or record.state in ("live", "rejected"):
                raise rows.refusal(connection, record, "live")
            return record

    def verified(self, id: str, figures: Figures, actor: str) -> PolicyRecord:
        """Record that an engine answers as the policy's trainer did; `figures` say how nearly.

        Of the policy that is live it is a remark. Raises ConflictError for a rejected one.
        """
        with self._changing() as connection:
            record = self._get(connection, id)
            if record.state == "rejected":
                raise rows.refusal(connection, record, "verified")
            to: State = "live" if record.state == "live" else "verified"
            return rows.move(connection, record, to, "verified", figures, actor)

    def reject(self, id: str, reason: str, figures: Figures, actor: str) -> PolicyRecord:
        """Record why a policy does not go live. Raises ConflictError for the one that is."""
        allowed: Sequence[State] = ("candidate", "verified", "retired")
        return self._moved(id, allowed, "rejected", reason, figures, actor)

    def retire(self, id: str, reason: str, figures: Figures, actor: str) -> PolicyRecord:
        """Take a verified policy out of service: an adapter whose base is no longer served."""
        return self._moved(id, ("verified",), "retired", reason, figures, actor)

    def make_live(
        self, id: str, reason: str, figures: Figures, actor: str, *, is_rollback: bool = False
    ) -> PolicyRecord | None:
        """Make a verified policy the live one and retire the one that was; returns that, as it was.

        With `is_rollback` the policy is that of `rollback_target`. Raises ConflictError for any
        other one that is not verified, and for reward models.
        """
        with self._changing() as connection:
            record = self._get(connection, id)
            previous = rows.find(connection, LIVE)
            if is_rollback:
                self._check_target(connection, record)
            elif record.state != "verified" or record.kind == "reward":
                raise rows.refusal(connection, record, "live")
            if previous is not None:
                gave_way = f"gave way to {record.id}: {reason}"
                rows.move(connection, previous, "retired", gave_way, figures, actor)
            rows.move(connection, record, "live", reason, figures, actor, is_rollback=is_rollback)
            return previous

    def take_down(self, reason: str, figures: Figures, actor: str) -> PolicyRecord:
        """Retire the live policy with none in its place: a rollback to the engine's own model."""
        with self._changing() as connection:
            live = self._get(connection, LIVE)
            return rows.move(connection, live, "retired", reason, figures, actor, is_rollback=True)

    def rollback_target(self) -> PolicyRecord:
        """The policy that was live before this one was promoted. Raises ConflictError for none.

        Rolling back twice goes back two promotions; policies rejected since are passed over.
        """
        with self._database.read() as connection:
            return self._target(connection)

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        try:
            with self._database.begin() as connection:
                self._database.queue_up(connection, _QUEUE)
                yield connection
        except IntegrityError as exc:
            raise ConflictError(
                "another process changed the policies at the same moment; look at 'cai policy "
                "list' and try again"
            ) from exc

    def _moved(
        self,
        id: str,
        allowed: Sequence[State],
        to: State,
        reason: str,
        figures: Figures,
        actor: str,
    ) -> PolicyRecord:
        with self._changing() as connection:
            record = self._get(connection, id)
            if record.state not in allowed:
                raise rows.refusal(connection, record, to)
            return rows.move(connection, record, to, reason, figures, actor)

    def _followed(self, connection: Connection, known: PolicyRecord, path: Path) -> PolicyRecord:
        """The record of a policy whose folder may be somewhere else now."""
        folder = self._roots.told(path)
        if folder == known.folder or (self._roots.home / known.folder).is_dir():
            return known
        where = policies.c.id == known.id
        connection.execute(update(policies).where(where).values(folder=folder))
        return known.model_copy(update={"folder": folder})

    def _get(self, connection: Connection, ref: str) -> PolicyRecord:
        found = rows.find(connection, ref)
        if found is not None:
            return found
        if ref == LIVE:
            raise NotFoundError("no policy is live; promote one: cai policy promote REF")
        if rows.is_id(ref) and (self._roots.home / FOLDER / ref / MANIFEST).is_file():
            raise NotFoundError(
                f"the policy '{ref}' is not registered; add it: cai policy add {ref}", param="id"
            )
        newest = select(policies.c.id).order_by(policies.c.seq.desc()).limit(20)
        known = connection.scalars(newest).all()
        raise NotFoundError(f"no policy '{ref[:100]}'{choices(ref[:100], known)}", param="id")

    def _target(self, connection: Connection) -> PolicyRecord:
        id = predecessor(connection)
        if id is not None:
            return self._get(connection, id)
        live = rows.find(connection, LIVE)
        raise ConflictError(
            "no policy is live, so there is nothing to roll back"
            if live is None
            else f"no policy was live before '{live.id}', so there is none to roll back to"
        )

    def _check_target(self, connection: Connection, record: PolicyRecord) -> None:
        target = self._target(connection)
        if record.id != target.id:
            raise ConflictError(f"a rollback goes back to '{target.id}', not to '{record.id}'")
