"""What a model folder says of itself before it is loaded: size, context, dtype, origin. Light.

Start from `locate` for the folder that a reference means, then `ModelFacts.of(folder)`.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.engine.model_folder import check_model_folder, digest_model_folder, read_config
from cai.engine.open import SANDBOX_MODEL
from cai.engine.template_check import check_template_text, read_template
from cai.engine.weights import tensors_of
from cai.errors import ConfigError, NotFoundError, PolicyError
from cai.policy.manifest import PolicyManifest, read_manifest, verify
from cai.policy.resolve import resolve_policy

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LOGIN = re.compile(r"^(https?://)[^/?#]*@")
_QUERY = re.compile(r"\?[^#]*")
_WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model folder that may be loaded. `num_parameters` counts tied weights once.

    `manifest` is there when the folder is a policy of ours; `digest` then is the policy's identity.
    """

    folder: Path
    ref: str
    num_parameters: int
    hidden: int
    layers: int
    vocab: int
    context: int | None
    dtype: str
    digest: str
    manifest: PolicyManifest | None = None

    @classmethod
    def of(cls, folder: Path, ref: str | None = None) -> ModelFacts:
        """Check and read a folder. Raises ConfigError for code in it, PolicyError if it is torn."""
        check_model_folder(folder)
        manifest = _manifest(folder)
        _check_template(folder)
        config = read_config(folder / "config.json")
        text = config.get("text_config") or config
        sizes = [math.prod(tensor.shape) for tensor in tensors_of(folder).values()]
        return cls(
            folder=folder,
            ref=ref or folder.name,
            num_parameters=sum(sizes),
            hidden=int(text.get("hidden_size", 0)),
            layers=int(text.get("num_hidden_layers", 0)),
            vocab=int(text.get("vocab_size", 0)),
            context=text.get("max_position_embeddings"),
            dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
            digest=manifest.digest if manifest else digest_model_folder(folder),
            manifest=manifest,
        )

    def lineage(self) -> dict[str, Any]:
        """Manifest fields of what is trained from here: the base, and the policy it continues."""
        if self.manifest is None:
            return {"base": public_name(self.ref), "base_digest": self.digest}
        return {
            "base": self.manifest.base,
            "base_digest": self.manifest.base_digest,
            "parent": self.manifest.name,
            "parent_digest": self.digest,
        }


def locate(ref: str, home: Path) -> Path:
    """The folder of `sandbox`, a path, a policy's name, or a hub id, which is downloaded.

    Raises NotFoundError naming what there is.
    """
    try:
        return resolve_policy(ref, home)
    except NotFoundError:
        if not _HUB_ID.fullmatch(ref):
            raise
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ref, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as exc:
        reason = " ".join(str(exc).split())[:300]
        raise NotFoundError(f"no folder '{ref}', nor a model of the hub: {reason}") from exc


def _manifest(folder: Path) -> PolicyManifest | None:
    """The manifest of a policy of ours, every file checked; None for any other model."""
    if not (folder / "manifest.json").is_file():
        return None
    try:
        found = read_manifest(folder)
    except PolicyError:
        return None  # a manifest of another kind, such as the bundled model's
    if found.kind == "lora":
        raise ConfigError(
            f"{folder}: an adapter cannot be trained on; train it with lora.merge=true, or name "
            "its base"
        )
    return verify(folder)


def _check_template(folder: Path) -> None:
    """A template is code: it is tried under limits once, but for the one that we ship."""
    source = read_template(folder)
    if source is not None and folder.resolve() != SANDBOX_MODEL.resolve():
        text, path = source
        if text not in _fine_templates:
            check_template_text(text, origin=str(path))
            _fine_templates.add(text)


_fine_templates: set[str] = set()
"""Texts that were tried in this process, which takes seconds each."""


def public_name(ref: str) -> str:
    """A reference without the folders of this machine."""
    path = Path(os.path.expanduser(ref))
    is_here = path.is_absolute() or path.exists()
    return Path(os.path.abspath(path)).name if is_here else ref


def public_address(address: str) -> str:
    """An address of an engine or a reward model without folders, login and query."""
    if is_url(address):
        return _QUERY.sub("", without_login(address))
    scheme, colon, rest = address.partition(":")
    if colon and scheme.isalpha():
        return f"{scheme}:{public_name(rest)}"
    return public_name(address)


def without_login(address: str) -> str:
    """An address without the `name:password@` that a URL may have."""
    return _LOGIN.sub(r"\1", address)


def is_url(address: str) -> bool:
    """Whether a model is named by the address of a server and not by its folder."""
    return address.startswith(("http://", "https://"))
