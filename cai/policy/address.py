"""What stands behind the engine address `policy:<ref>`: the folder of a policy.

Called by name from `cai.engine.open`, which may not know of policies.
"""

from __future__ import annotations

from pathlib import Path

from cai.errors import NotFoundError
from cai.policy.resolve import resolve_policy
from cai.settings import Settings, load_settings


def folder_of(ref: str) -> Path:
    """The folder of a registered policy by id or digest or as `live`, or of one not registered.

    Settings say where the home folder is. Raises NotFoundError naming what there is.
    """
    settings = load_settings()
    found = _registered(ref, settings)
    return resolve_policy(ref, settings.home) if found is None else found


def _registered(ref: str, settings: Settings) -> Path | None:
    is_there = settings.database_url is not None or (settings.home / "cai.db").exists()
    if not is_there:  # looking for a policy makes no database
        return None
    from cai.db import open_database
    from cai.policy.registry import PolicyRegistry

    with open_database(settings) as database:
        registry = PolicyRegistry(database, settings.home, roots=settings.policy_roots)
        try:
            return registry.path(registry.get(ref))
        except NotFoundError:
            return None
