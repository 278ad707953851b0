"""Lines of the registry's tables, read and written inside a transaction of the registry's.

Which change is allowed is for `registry.py` to know, and `refusal` says why one is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from cai.errors import ConflictError
from cai.policy.manifest import PolicyManifest
from cai.policy.records import PolicyEvent, PolicyRecord, State
from cai.tables import policies, policy_events

COLUMNS: Final = tuple(policies.c[name] for name in PolicyRecord.model_fields)
"""Those of a record."""
RESERVED: Final = frozenset({"live", "sandbox", "rollback"})
"""Names that mean something else where a policy is named."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_LEFT_OUT = {"files", "tensors", "probes", "reward_probes"}
_TAKEN = ("name", "kind", "method", "base", "base_digest", "parent", "parent_digest")


def is_id(text: str) -> bool:
    """Whether a policy may have this id; what may not, no query should see."""
    return _ID.fullmatch(text) is not None


def first(connection: Connection, query: Select[Any]) -> PolicyRecord | None:
    """The record of the first line that the query finds."""
    row = connection.execute(query.limit(1)).mappings().first()
    return None if row is None else record_of(row)


def find(connection: Connection, ref: str) -> PolicyRecord | None:
    """The policy with this id; the one that is `live`; else the oldest whose digest begins so."""
    if ref == "live":
        return first(connection, select(*COLUMNS).where(policies.c.state == "live"))
    found = first(connection, select(*COLUMNS).where(policies.c.id == ref)) if is_id(ref) else None
    if found is None and (digits := _DIGEST.fullmatch(ref)):
        begins = policies.c.digest.startswith(f"sha256:{digits[1]}")
        found = first(connection, select(*COLUMNS).where(begins).order_by(policies.c.seq))
    return found


def insert_policy(
    connection: Connection, manifest: PolicyManifest, seal: str, *, folder: str, actor: str
) -> str:
    """A candidate, with its first event; returns its id. `seal` is the digest of the manifest."""
    id = _free_id(connection, manifest, seal)
    now = time_now()
    values = {name: getattr(manifest, name) for name in _TAKEN} | {
        "id": id,
        "digest": manifest.digest,
        "manifest_digest": seal,
        "folder": folder,
        "state": "candidate",
        "origin": plain(manifest.model_dump(mode="json", exclude=_LEFT_OUT)),
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(insert(policies).values(values))
    told = {"reason": "added", "figures": {}, "actor": actor, "is_rollback": False}
    _tell(connection, id, None, "candidate", told)
    return id


def move(
    connection: Connection,
    record: PolicyRecord,
    to: State,
    reason: str,
    figures: Mapping[str, Any],
    actor: str,
    *,
    is_rollback: bool = False,
) -> PolicyRecord:
    """Change the state of a policy, and write down that it was; the same state is a remark."""
    changed: dict[str, Any] = {"state": to, "updated_at": time_now()}
    connection.execute(update(policies).where(policies.c.id == record.id).values(changed))
    told = {"reason": reason, "figures": plain(figures), "actor": actor}
    _tell(connection, record.id, record.state, to, {**told, "is_rollback": is_rollback})
    return record.model_copy(update=changed)


def refusal(connection: Connection, record: PolicyRecord, to: State) -> ConflictError:
    """Why a policy cannot get into a state, and the way out."""
    return ConflictError(f"the policy '{record.id}' {_why_not(connection, record, to)}")


def record_of(row: RowMapping) -> PolicyRecord:
    """A record from the columns of one."""
    return PolicyRecord.model_validate(dict(row))


def event_of(row: RowMapping) -> PolicyEvent:
    """An event from its whole line."""
    return PolicyEvent.model_validate({name: row[name] for name in PolicyEvent.model_fields})


def plain(value: Any) -> Any:
    """Figures that JSON can carry: what is not finite is told in words."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def time_now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _free_id(connection: Connection, manifest: PolicyManifest, seal: str) -> str:
    """The name, else the name with digits of the digest, or of the seal."""
    with_digits = (f"{manifest.name[:55]}-{one[7:15]}" for one in (manifest.digest, seal))
    for id in (manifest.name, *with_digits):
        query = select(policies.c.seq).where(policies.c.id == id)
        if id not in RESERVED and connection.scalar(query) is None:
            return id
    raise ConflictError(f"every id for a policy named '{manifest.name}' is taken; rename it")


def _tell(
    connection: Connection, id: str, before: State | None, to: State, told: Mapping[str, Any]
) -> None:
    event = {"policy_id": id, "at": time_now(), "from_state": before, "to_state": to}
    connection.execute(insert(policy_events).values({**event, **told}))


def _why_not(connection: Connection, record: PolicyRecord, to: State) -> str:
    if record.state == "rejected":
        return (
            f"was rejected: {_last_reason(connection, record.id)}; train another, or if the cause "
            "is gone take it as a candidate again: cai policy add PATH --again"
        )
    if record.state == to == "live":
        return "is live already"
    if to != "live":
        return f"is {record.state}, and cannot become {to}"
    if record.kind == "reward":
        return "is a reward model, which gives scores and no text; choose a policy"
    if record.state == "retired":
        return "is retired; verify it again, or go back to it: cai policy rollback"
    return f"has not been verified; do so first: cai policy verify {record.id}"


def _last_reason(connection: Connection, id: str) -> str:
    query = select(policy_events.c.reason).where(policy_events.c.policy_id == id)
    return str(connection.scalar(query.order_by(policy_events.c.seq.desc()).limit(1)))
