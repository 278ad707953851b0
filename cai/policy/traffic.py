"""The A/B split of `live` traffic as it was set, by whom and when, and what may be set.

Who gets which policy is for `assignment.py`. Start from `check_split` and `TrafficStore`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from sqlalchemy import insert, select

from cai.db import Database
from cai.errors import ConflictError, InputError
from cai.policy.assignment import LIVE, Split
from cai.policy.records import PolicyRecord
from cai.policy.registry_rows import time_now
from cai.tables import traffic

MAX_ARMS: Final = 16


class Setting(NamedTuple):
    """A split in percent by policy id, as it was set; `at` and `actor` are None before that."""

    split: dict[str, float]
    at: str | None = None
    actor: str | None = None


def check_split(split: Split, find: Callable[[str], PolicyRecord]) -> None:
    """Raise InputError or ConflictError unless the split can be served, and what `find` raises.

    `find` gives the record of an id: `PolicyRegistry.get`. Served beside each other are the live
    policy and adapters that were verified.
    """
    if len(split) > MAX_ARMS:
        raise InputError(f"split: {len(split)} policies; at most {MAX_ARMS}", param="split")
    for id, percent in split.items():
        where = f"split.{id[:80]}"
        if id == LIVE:
            raise InputError(
                f"{where}: what is left of 100 percent goes to the live policy; leave it out",
                param=where,
            )
        if not (math.isfinite(percent) and 0 < percent <= 100):
            raise InputError(f"{where}: {percent:g} is no share above 0 and up to 100", param=where)
        _check_servable(id, find(id), where)
    if (total := math.fsum(split.values())) > 100 + 1e-9:
        raise InputError(f"split: the shares add up to {total:g} percent, above 100", param="split")


class TrafficStore:
    """The splits that were set; the last one counts. Calls block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self) -> Setting:
        """The split that counts; an empty one before any was set."""
        query = select(traffic.c.split, traffic.c.at, traffic.c.actor)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(traffic.c.seq.desc()).limit(1)).first()
        return Setting({}) if row is None else Setting(*row)

    def set(self, split: Split, *, actor: str) -> Setting:
        """Make a checked split the one that counts."""
        setting = Setting(dict(split), time_now(), actor)
        with self._database.begin() as connection:
            connection.execute(insert(traffic).values(setting._asdict()))
        return setting


def _check_servable(id: str, record: PolicyRecord, where: str) -> None:
    if record.id != id:
        raise InputError(f"{where}: name the policy by its id, '{record.id}'", param=where)
    if record.state == "live" or (record.kind == "lora" and record.state == "verified"):
        return
    if record.kind == "lora":
        reason = f"is {record.state}; verify it first"
    else:
        reason = "is no adapter, so it is served alone; promote it instead"
    raise ConflictError(f"{where}: the policy '{record.id}' {reason}")
