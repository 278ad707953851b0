"""What the registry's lines say about the past: where a policy comes from, and what was live.

Reads inside a transaction of the caller's. Start from `trace` and `predecessor`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, select

from cai.policy.manifest import DataSource
from cai.policy.records import Ancestor, Lineage
from cai.tables import policies, policy_events


def trace(connection: Connection, id: str) -> Lineage:
    """The lineage of a registered policy: by digest, so that no other of the same name gets in.

    It ends with a parent that is not registered, of which only the name and digest are known.
    """
    row = _line(connection, policies.c.id == id)
    assert row is not None, f"{id} is registered"
    found = [_ancestor(row)]
    seen = {row["digest"]}
    while row["parent"] is not None:
        parent = row["parent_digest"]
        above = None if parent is None else _line(connection, policies.c.digest == parent)
        if above is None:
            found.append(Ancestor(id=None, name=row["parent"], digest=parent))
            break
        if parent in seen:
            break
        seen.add(parent)
        found.append(_ancestor(above))
        row = above
    return Lineage(policies=tuple(found), base=row["base"], base_digest=row["base_digest"])


def predecessor(connection: Connection) -> str | None:
    """The id of the policy to go back to, or None.

    Promotions pile up and a rollback takes down to where it went, so that going back again goes
    further. What was rejected since is passed over.
    """
    pile = _promoted(connection)
    query = select(policies.c.id).where(policies.c.state.in_(("retired", "verified")))
    able = {*connection.scalars(query.where(policies.c.id.in_(set(pile))))}
    return next((id for id in reversed(pile) if id in able), None)


def _promoted(connection: Connection) -> list[str]:
    """Ids in the order of their promotions, without those taken back; the live one last.

    A rollback that made none live took back all there were.
    """
    event = policy_events.c
    is_up = (event.to_state == "live") & (event.from_state != "live")
    is_down = (event.from_state == "live") & (event.to_state == "retired") & event.is_rollback
    query = select(event.policy_id, event.to_state, event.is_rollback).where(is_up | is_down)
    pile: list[str] = []
    for id, to, is_rollback in connection.execute(query.order_by(event.seq)):
        if to != "live":
            pile.clear()
        elif not is_rollback:
            pile.append(id)
        else:
            while pile and pile[-1] != id:
                pile.pop()
    return pile


def _line(connection: Connection, where: Any) -> RowMapping | None:
    query = select(policies).where(where).order_by(policies.c.seq).limit(1)
    return connection.execute(query).mappings().first()


def _ancestor(row: RowMapping) -> Ancestor:
    origin = row["origin"]
    return Ancestor(
        id=row["id"],
        name=row["name"],
        digest=row["digest"],
        state=row["state"],
        method=row["method"],
        data=tuple(DataSource.model_validate(one) for one in origin["data"]),
        constitutions=origin["constitutions"],
        trained_at=origin["created_at"],
    )
