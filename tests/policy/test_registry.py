"""The registry's states: each way between them, and each that is refused with its reason."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai.db import Database
from cai.errors import ConflictError, InputError, NotFoundError, PolicyError
from cai.policy.manifest import DataSource, seal
from cai.policy.registry import PolicyRegistry
from tests.policy.promoting_at_once import NUM_STATEMENTS
from tests.policy.registering import FIELDS, opened, register, sealed
from tests.processes import run_script


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as database:
        yield database


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> PolicyRegistry:
    return PolicyRegistry(database, tmp_path)


def states(registry: PolicyRegistry) -> dict[str, str]:
    return {one.id: one.state for one in reversed(registry.list().records)}


def promote(registry: PolicyRegistry, id: str) -> None:
    registry.make_live(id, "promoted", {}, "test")


def roll_back(registry: PolicyRegistry) -> str:
    target = registry.rollback_target().id
    registry.make_live(target, "rolled back", {}, "test", is_rollback=True)
    return target


def test_a_new_policy_is_a_candidate_with_its_first_event(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    folder = sealed(tmp_path, "first")
    record = registry.add(folder, actor="me")
    assert (record.id, record.state, record.folder) == ("first", "candidate", "policies/first")
    assert registry.path(record) == folder
    assert registry.get("first") == registry.get(record.digest[7:15]) == record
    (event,) = registry.events("first")
    assert (event.from_state, event.to_state, event.actor) == (None, "candidate", "me")


def test_the_same_policy_again_is_the_same_record(registry: PolicyRegistry, tmp_path: Path) -> None:
    folder = sealed(tmp_path, "first")
    record = registry.add(folder, actor="me")
    shutil.copytree(folder, copy := tmp_path / "copy")
    assert registry.add(folder, actor="you") == registry.add(copy, actor="you") == record
    shutil.rmtree(folder)
    assert registry.add(copy, actor="you").folder == "copy"
    assert registry.get("first").folder == "copy"
    assert len(registry.events("first")) == 1


def test_a_name_that_is_taken_or_reserved_gets_digits_of_the_digest(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    registry.add(sealed(tmp_path, "first"), actor="me")
    (other := tmp_path / "other").mkdir()
    second = registry.add(sealed(other, "first", content="other"), actor="me")
    assert second.id == f"first-{second.digest[7:15]}"
    assert second.name == "first"
    live = registry.add(sealed(tmp_path, "live"), actor="me")
    assert live.id == f"live-{live.digest[7:15]}"


def test_the_same_weights_sealed_otherwise_are_another_policy(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    """So one that was rejected for its probes can come again with the right ones."""
    folder = sealed(tmp_path, "first")
    first = registry.add(folder, actor="me")
    seal(folder, **FIELDS, name="first", metrics={"loss": 1.0})
    second = registry.add(folder, actor="me")
    assert second.digest == first.digest
    assert second.id == f"first-{second.digest[7:15]}"


def test_what_is_not_as_sealed_or_not_named_well_is_not_registered(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    torn = sealed(tmp_path, "torn")
    (torn / "config.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"config\.json changed"):
        registry.add(torn, actor="me")
    shouting = sealed(tmp_path, "shouting")
    seal(shouting, **FIELDS, name="No/Name")
    with pytest.raises(PolicyError, match="'No/Name' of the policy cannot be registered"):
        registry.add(shouting, actor="me")
    assert states(registry) == {}


def test_a_path_outside_the_home_and_the_roots_is_refused(
    database: Database, tmp_path: Path
) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    folder = sealed(outside, "first")
    registry = PolicyRegistry(database, home)
    (home / "policies").mkdir(parents=True)
    (home / "policies" / "link").symlink_to(folder)
    for path in (folder, home / "policies" / "link", home / ".." / "outside", Path("/")):
        with pytest.raises(InputError, match=r"lies outside .*CAI_POLICY_ROOTS") as caught:
            registry.add(path, actor="me")
        assert caught.value.param == "path"
    rooted = PolicyRegistry(database, home, roots=(outside,))
    record = rooted.add(folder, actor="me")
    assert record.folder == str(folder)
    assert rooted.path(record) == folder
    with pytest.raises(InputError, match="lies outside"):
        registry.path(record)


def test_a_file_that_is_a_link_to_the_outside_is_refused(
    registry: PolicyRegistry, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = sealed(tmp_path, "first")
    secret = tmp_path_factory.mktemp("elsewhere") / "model.safetensors"
    shutil.move(folder / "model.safetensors", secret)
    (folder / "model.safetensors").symlink_to(secret)
    with pytest.raises(InputError, match=r"model\.safetensors: lies outside"):
        registry.add(folder, actor="me")


def test_the_way_to_live_and_its_events(registry: PolicyRegistry, tmp_path: Path) -> None:
    first, second = register(registry, tmp_path, "first"), register(registry, tmp_path, "second")
    assert registry.live() is None
    assert registry.make_live(first, "good", {"rate": 0.5}, "me") is None
    previous = registry.make_live(second, "better", {"rate": 0.6, "kl": float("nan")}, "me")
    assert previous is not None
    assert (previous.id, previous.state) == ("first", "live")
    assert states(registry) == {"first": "retired", "second": "live"}
    assert registry.get("live").id == "second"
    told = [(one.from_state, one.to_state, one.reason) for one in registry.events(first)]
    assert told == [
        (None, "candidate", "added"),
        ("candidate", "verified", "verified"),
        ("verified", "live", "good"),
        ("live", "retired", "gave way to second: better"),
    ]
    assert registry.events(second)[-1].figures == {"rate": 0.6, "kl": "nan"}
    assert registry.events(first)[1].figures == {"max_abs_diff": 1e-6}


def test_what_may_not_go_live_is_told_why(registry: PolicyRegistry, tmp_path: Path) -> None:
    registry.add(sealed(tmp_path, "fresh"), actor="me")
    register(registry, tmp_path, "scores", kind="reward", method="reward")
    for name in ("old", "now", "bad"):
        register(registry, tmp_path, name)
    promote(registry, "old")
    promote(registry, "now")
    registry.reject("bad", "probes are off by 3.1", {"max_abs_diff": 3.1}, "me")
    before = states(registry)
    for id, message in {
        "fresh": "has not been verified; do so first: cai policy verify fresh",
        "scores": "is a reward model, which gives scores and no text",
        "old": "is retired; verify it again, or go back to it: cai policy rollback",
        "now": "is live already",
        "bad": r"was rejected: probes are off by 3\.1; .*cai policy add PATH --again",
    }.items():
        with pytest.raises(ConflictError, match=f"the policy '{id}' {message}"):
            promote(registry, id)
    with pytest.raises(NotFoundError, match="no policy 'bat'; did you mean 'bad'"):
        promote(registry, "bat")
    for id in ("scores", "now", "bad"):
        with pytest.raises(ConflictError):
            registry.promotable(id)
    assert registry.promotable("old").state == "retired"
    assert states(registry) == before


def test_what_cannot_be_rejected_or_retired(registry: PolicyRegistry, tmp_path: Path) -> None:
    for name in ("now", "bad"):
        register(registry, tmp_path, name)
    promote(registry, "now")
    registry.reject("bad", "no", {}, "me")
    with pytest.raises(ConflictError, match="'now' is live, and cannot become rejected"):
        registry.reject("now", "no", {}, "me")
    with pytest.raises(ConflictError, match="'bad' was rejected: no"):
        registry.reject("bad", "again", {}, "me")
    with pytest.raises(ConflictError, match="'bad' was rejected"):
        registry.verified("bad", {}, "me")
    with pytest.raises(ConflictError, match="'now' is live, and cannot become retired"):
        registry.retire("now", "no", {}, "me")


def test_a_rejected_policy_is_a_candidate_again_only_when_asked(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    folder = sealed(tmp_path, "first")
    registry.add(folder, actor="me")
    registry.reject("first", "the disk was full", {}, "me")
    assert registry.add(folder, actor="me").state == "rejected"
    assert registry.add(folder, actor="me", again=True).state == "candidate"
    assert [one.reason for one in registry.events("first")][1:] == [
        "the disk was full",
        "added again",
    ]


def test_a_retired_policy_goes_live_once_it_is_verified_again(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        register(registry, tmp_path, name)
    for name in ("first", "second", "first", "second"):
        registry.verified(name, {}, "test")
        promote(registry, name)
    assert states(registry) == {"first": "retired", "second": "live"}
    registry.verified("second", {"max_abs_diff": 0.0}, "test")
    assert registry.live() == registry.get("second")
    assert registry.events("second")[-1].from_state == "live"


def test_an_adapter_is_retired_with_its_base(registry: PolicyRegistry, tmp_path: Path) -> None:
    id = register(registry, tmp_path, "adapter", kind="lora", base_digest="sha256:x")
    assert registry.get(id).base_digest == "sha256:x"
    assert registry.retire(id, "its base is no longer served", {}, "me").state == "retired"


def test_rolling_back_goes_back_promotion_by_promotion(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    """a, b, c were promoted; back to b, back to a, and there it ends; d comes on top of a."""
    with pytest.raises(ConflictError, match="no policy is live"):
        registry.rollback_target()
    for name in "abcd":
        register(registry, tmp_path, f"p-{name}")
    for name in "abc":
        promote(registry, f"p-{name}")
    assert [roll_back(registry), roll_back(registry)] == ["p-b", "p-a"]
    with pytest.raises(ConflictError, match="no policy was live before 'p-a'"):
        registry.rollback_target()
    assert registry.get("live").id == "p-a"
    promote(registry, "p-d")
    assert registry.rollback_target().id == "p-a"
    assert registry.events("p-b")[-2].is_rollback


def test_a_rollback_goes_nowhere_else_and_passes_over_the_rejected(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    for name in ("a1", "b1", "c1", "new"):
        register(registry, tmp_path, name)
    for name in ("a1", "b1", "c1"):
        promote(registry, name)
    for other in ("a1", "new", "c1"):
        with pytest.raises(ConflictError, match=f"goes back to 'b1', not to '{other}'"):
            registry.make_live(other, "", {}, "me", is_rollback=True)
    registry.reject("b1", "found bad", {}, "me")
    assert roll_back(registry) == "a1"


def test_a_verified_predecessor_is_gone_back_to_as_well(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    for name in ("a1", "b1", "c1"):
        register(registry, tmp_path, name)
        promote(registry, name)
    registry.verified("b1", {}, "me")
    assert [roll_back(registry), roll_back(registry)] == ["b1", "a1"]


def test_taking_down_the_live_policy_leaves_nothing_to_go_back_to(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    for name in ("a1", "b1"):
        register(registry, tmp_path, name)
    promote(registry, "a1")
    assert registry.take_down("back to the base", {}, "me").state == "retired"
    assert registry.live() is None
    with pytest.raises(NotFoundError, match="no policy is live"):
        registry.take_down("again", {}, "me")
    promote(registry, "b1")
    with pytest.raises(ConflictError, match="no policy was live before 'b1'"):
        registry.rollback_target()


def test_lists_come_newest_first_in_pages_and_by_state(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    for number in range(5):
        registry.add(sealed(tmp_path, f"p{number}"), actor="me")
    registry.reject("p3", "no", {}, "me")
    page = registry.list(limit=2)
    assert ([one.id for one in page.records], page.has_more) == (["p4", "p3"], True)
    page = registry.list(after="p3", limit=3)
    assert ([one.id for one in page.records], page.has_more) == (["p2", "p1", "p0"], False)
    assert [one.id for one in registry.list("rejected").records] == ["p3"]
    with pytest.raises(NotFoundError, match="there is no policy 'p9'"):
        registry.list(after="p9")


def test_a_finished_policy_that_is_not_registered_is_told_how(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    sealed(tmp_path, "made")
    with pytest.raises(NotFoundError, match=r"'made' is not registered; .*cai policy add made"):
        registry.get("made")
    with pytest.raises(NotFoundError, match="no policy is live; promote one"):
        registry.get("live")
    for strange in ("../made", "a\0b", "", "x" * 300, "%2e"):
        with pytest.raises(NotFoundError):
            registry.get(strange)


def test_lineage_goes_back_to_rows_constitutions_and_the_base(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    rows = DataSource(name="run-1", digest="sha256:r", num_rows=7)
    sft = registry.add(
        sealed(tmp_path, "sft", base_digest="sha256:b", constitutions={"harmless@2": "sha256:c"}),
        actor="me",
    )
    more = {"parent": "sft", "parent_digest": sft.digest, "base_digest": "sha256:b"}
    registry.add(sealed(tmp_path, "dpo", method="dpo", data=(rows,), **more), actor="me")
    found = registry.lineage("dpo")
    assert [(one.id, one.method) for one in found.policies] == [("dpo", "dpo"), ("sft", "sft")]
    assert found.policies[0].data == (rows,)
    assert found.policies[1].constitutions == {"harmless@2": "sha256:c"}
    assert (found.base, found.base_digest) == ("sandbox", "sha256:b")


def test_lineage_outlives_folders_and_ends_at_a_parent_that_is_unknown(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    """A policy of the parent's name with another digest is not the parent."""
    registry.add(sealed(tmp_path, "sft"), actor="me")
    folder = sealed(tmp_path, "dpo", parent="sft", parent_digest="sha256:other")
    registry.add(folder, actor="me")
    shutil.rmtree(folder)
    above = registry.lineage("dpo").policies[1]
    assert (above.id, above.name, above.digest) == (None, "sft", "sha256:other")


def test_the_database_itself_refuses_a_second_live_policy(
    registry: PolicyRegistry, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        register(registry, tmp_path, name)
    promote(registry, "first")
    with sqlite3.connect(tmp_path / "cai.db") as raw:
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            raw.execute("UPDATE policies SET state = 'live' WHERE id = 'second'")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            raw.execute("UPDATE policies SET state = 'great' WHERE id = 'second'")
    raw.close()


def test_processes_that_promote_at_once_and_are_killed_leave_one_live(tmp_path: Path) -> None:
    """A kill before the commit leaves a verified policy what it was; after it, that one is live."""
    failed, promoted, gave_way, *kills = run_script("tests.policy.promoting_at_once", tmp_path)
    assert failed == "0"
    assert int(promoted) > 8
    assert int(promoted) == int(gave_way) + 1
    assert len(kills) == NUM_STATEMENTS
    assert all(kill.count("live") == 2 for kill in kills)
    assert all(kill.endswith("-> live retired retired verified") for kill in kills[:4])
    assert kills[-1].endswith("-> live retired retired retired")
