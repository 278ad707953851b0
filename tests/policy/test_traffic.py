"""The A/B split: shares and stickiness of the assignment, and splits that cannot be served."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai.db import Database
from cai.errors import CaiError, ConflictError, InputError, NotFoundError
from cai.policy.assignment import assign
from cai.policy.registry import PolicyRegistry
from cai.policy.traffic import Setting, TrafficStore, check_split
from tests.policy.registering import opened, register, sealed

KEYS = [f"user-{number}" for number in range(10_000)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as database:
        yield database


def shares(split: dict[str, float]) -> Counter[str]:
    return Counter(assign(split, key) for key in KEYS)


def test_each_arm_gets_its_share_and_live_the_rest() -> None:
    """Of 10,000 keys a share of 30 % has a spread of sqrt(10,000 · 0.3 · 0.7) = 46."""
    found = shares({"a": 10, "b": 30})
    for arm, percent in {"a": 10, "b": 30, "live": 60}.items():
        spread = math.sqrt(len(KEYS) * percent / 100 * (1 - percent / 100))
        assert abs(found[arm] - 100 * percent) < 4 * spread, found
    assert shares({}) == {"live": 10_000}
    assert shares({"a": 100}) == {"a": 10_000}
    assert shares({"a": 40, "b": 60}).keys() == {"a", "b"}
    assert 1 <= shares({"a": 0.1})["a"] <= 30


def test_a_key_stays_where_it_is_whatever_the_order_of_the_split() -> None:
    """The value of one key is fixed here, so that an upgrade moves nobody."""
    split, turned = {"a": 10.0, "b": 30.0}, {"b": 30.0, "a": 10.0}
    assert [assign(split, key) for key in KEYS] == [assign(turned, key) for key in KEYS]
    known = {"user-0": "live", "user-1": "a", "user-2": "b", "user-5": "live"}
    assert {key: assign(split, key) for key in known} == known
    assert assign({"a": 50}, "\ud800") in ("a", "live")


def test_a_larger_share_takes_no_key_from_its_own_arm_and_few_from_others() -> None:
    before = {key: assign({"a": 10, "b": 10}, key) for key in KEYS}
    after = {key: assign({"a": 20, "b": 10}, key) for key in KEYS}
    assert all(after[key] == "a" for key in KEYS if before[key] == "a")
    moved = sum(before[key] != after[key] for key in KEYS)
    assert moved < 1400  # 1,000 must move


def test_the_last_split_counts_and_all_are_kept(database: Database) -> None:
    store = TrafficStore(database)
    assert store.current() == Setting({})
    store.set({"a": 10.5}, actor="me")
    second = store.set({"b": 5.0, "a": 1.0}, actor="you")
    assert store.current() == second
    assert (second.split, second.actor) == ({"b": 5.0, "a": 1.0}, "you")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM traffic").scalar() == 2


@pytest.mark.parametrize(
    ("split", "kind", "message"),
    [
        ({"adapter": 60, "now": 41}, InputError, r"add up to 101 percent, above 100"),
        ({"adapter": 0}, InputError, r"split\.adapter: 0 is no share above 0"),
        ({"adapter": 101}, InputError, "101 is no share"),
        ({"adapter": float("nan")}, InputError, "nan is no share"),
        ({"live": 10}, InputError, "what is left of 100 percent goes to the live policy"),
        ({f"p{n}": 1 for n in range(17)}, InputError, "17 policies; at most 16"),
        ({"adaptor": 10}, NotFoundError, "no policy 'adaptor'; did you mean 'adapter'"),
        ({"whole": 10}, ConflictError, "'whole' is no adapter, so it is served alone"),
        ({"fresh": 10}, ConflictError, "'fresh' is candidate; verify it first"),
        ({"scores": 10}, ConflictError, "'scores' is no adapter"),
    ],
)
def test_a_split_that_cannot_be_served_is_refused(
    database: Database, tmp_path: Path, split: dict[str, float], kind: type[CaiError], message: str
) -> None:
    registry = PolicyRegistry(database, tmp_path)
    for name, fields in {
        "adapter": {"kind": "lora"},
        "now": {},
        "whole": {},
        "scores": {"kind": "reward", "method": "reward"},
    }.items():
        register(registry, tmp_path, name, **fields)
    registry.add(sealed(tmp_path, "fresh", kind="lora"), actor="me")
    registry.make_live("now", "", {}, "me")
    check_split({"adapter": 60, "now": 40}, registry.get)
    with pytest.raises(kind, match=message):
        check_split(split, registry.get)


def test_a_split_names_policies_by_their_ids(database: Database, tmp_path: Path) -> None:
    registry = PolicyRegistry(database, tmp_path)
    id = register(registry, tmp_path, "adapter", kind="lora")
    digits = registry.get(id).digest[7:19]
    with pytest.raises(InputError, match="name the policy by its id, 'adapter'"):
        check_split({digits: 10}, registry.get)
