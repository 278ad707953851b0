"""From a policy's reference to its folder: `sandbox`, a path, or a name under `policies/`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from cai.engine.open import SANDBOX_MODEL
from cai.errors import ConfigError, NotFoundError
from cai.registry import choices

FOLDER: Final = "policies"
"""Name of the folder of policies in the home folder."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def resolve_policy(ref: str, home: Path) -> Path:
    """The folder that `ref` means. What has a slash is a path, and begins with ./ where it is here.

    Raises NotFoundError naming what there is, ConfigError for what can be neither.
    """
    if ref == "sandbox":
        return SANDBOX_MODEL
    if "/" in ref or ref.startswith(("~", ".")):
        folder = Path(os.path.expanduser(ref))
        if not folder.is_dir():
            raise NotFoundError(f"no policy folder at '{ref}'", param="policy")
        return folder
    if not _NAME.fullmatch(ref):
        raise ConfigError(
            f"'{ref[:100]}' is no policy; give sandbox, a path with a slash, or a name of small "
            "letters, digits, '.', '_' and '-'",
            param="policy",
        )
    folder = home / FOLDER / ref
    if not folder.is_dir():
        known = ["sandbox", *policy_names(home)]
        raise NotFoundError(f"no policy '{ref}' in {home / FOLDER}{choices(ref, known)}")
    return folder


def policy_names(home: Path) -> list[str]:
    """Names of the finished policies under `home`: those with a manifest."""
    return sorted(path.parent.name for path in (home / FOLDER).glob("*/manifest.json"))
