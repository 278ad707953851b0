"""What the registry tells of a policy: its record, its events, its lineage. Light.

    candidate -> verified -> live -> retired       retired -> live by rollback
    candidate, verified, retired -> rejected       retired -> verified when it is verified again
    verified -> retired                            rejected -> candidate when it is added again

Each transition is an event with a time, a reason and figures.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict

from cai.errors import InputError
from cai.policy.manifest import DataSource
from cai.registry import choices

State = Literal["candidate", "verified", "live", "retired", "rejected"]
STATES: Final[tuple[State, ...]] = get_args(State)


def parse_state(text: str | None) -> State | None:
    """The state that a filter names; None where it names none. Raises InputError with a guess."""
    for state in STATES:
        if text == state:
            return state
    if text is None:
        return None
    raise InputError(f"state: no state '{text[:60]}'{choices(text[:60], STATES)}", param="state")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyRecord(_Record):
    """A registered policy. `digest` is over its files, `manifest_digest` over what seals them."""

    id: str
    name: str
    """What its trainer called it; several policies may have one name."""
    kind: Literal["full", "lora", "reward"]
    method: str
    digest: str
    manifest_digest: str
    folder: str
    """Relative to the home folder when inside it."""
    base: str
    base_digest: str | None
    parent: str | None
    parent_digest: str | None
    state: State
    created_at: str
    updated_at: str

    @property
    def below_digest(self) -> str | None:
        """Of an adapter: the weights that it belongs on, those that its training began from."""
        return self.parent_digest or self.base_digest


class PolicyEvent(_Record):
    """A transition, or a remark when both states are the same. The first has no `from_state`."""

    policy_id: str
    at: str
    from_state: State | None
    to_state: State
    is_rollback: bool
    reason: str
    actor: str
    figures: dict[str, Any]


class Ancestor(_Record):
    """A policy and what it was made of. `id` and `state` are None where it is not registered."""

    id: str | None
    name: str
    digest: str | None
    state: State | None = None
    method: str | None = None
    data: tuple[DataSource, ...] = ()
    constitutions: dict[str, str] = {}
    """Digests by reference."""
    trained_at: str | None = None


class Lineage(_Record):
    """Where a policy comes from: itself first, then parent after parent, and the base of them."""

    policies: tuple[Ancestor, ...]
    base: str
    base_digest: str | None
