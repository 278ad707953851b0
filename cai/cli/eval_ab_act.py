"""What an A/B test recommends, done: the same way as `cai policy promote` and `rollback` do it."""

from __future__ import annotations

from typing import Any

from cai.cli.server_client import ServerClient
from cai.errors import ConflictError
from cai.evaluate.ab import ABTest, Recommendation
from cai.settings import Settings


def act(
    advice: Recommendation,
    settings: Settings,
    test: ABTest,
    key_variable: str,
    *,
    promote: bool,
    rollback: bool,
) -> dict[str, Any] | None:
    """Do what is recommended, if that was asked for; None where nothing was done."""
    from cai.cli.policy import promote_policy, rollback_policy  # needs the database

    reason = f"A/B test: {advice.why}"[:1000]
    figures = {"ab": test.as_dict()}
    if advice.action == "promote" and promote:
        assert advice.arm is not None, "a policy is promoted"
        return promote_policy(
            settings, advice.arm, reason, key_variable=key_variable, figures=figures
        )
    if advice.action == "rollback" and rollback:
        return rollback_policy(settings, reason, key_variable=key_variable, figures=figures)
    if advice.action == "drop" and rollback:
        assert advice.arm is not None, "an arm is dropped"
        return _drop(settings, advice.arm, key_variable)
    return None


def _drop(settings: Settings, arm: str, key_variable: str) -> dict[str, Any]:
    """Take an arm out of the split: on the running server, else in the database."""
    if settings.url is not None:
        with ServerClient(settings.url, key_variable=key_variable) as server:
            split = _without(arm, server.get("/v1/traffic")["split"])
            told: dict[str, Any] = server.put("/v1/traffic", {"split": split})
            return told
    from cai.cli.policy import acting
    from cai.db import open_database
    from cai.policy.traffic import TrafficStore

    with open_database(settings) as database:
        store = TrafficStore(database)
        setting = store.set(_without(arm, store.current().split), actor=acting())
    return {**setting._asdict(), "is_server_told": False}


def _without(arm: str, split: dict[str, float]) -> dict[str, float]:
    if arm not in split:
        raise ConflictError(f"the arm '{arm}' has no share of the traffic any more")
    return {name: share for name, share in split.items() if name != arm}
