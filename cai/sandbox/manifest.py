"""What the bundled model is: where it lies, what it was made from, whether that still holds.

Light: reads `manifest.json` and hashes, loads no model. `build` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai.constitution.schema import Constitution
from cai.critique.prompts import DIGEST as CRITIQUE_DIGEST
from cai.errors import DataError
from cai.feedback.prompts import DIGEST as COMPARE_DIGEST
from cai.files import digest_file, digest_json, read_json
from cai.sandbox import answers, dimensions, phrasing, principles, wording
from cai.sandbox.topics import TOPICS

MODEL_DIR = Path(__file__).parent / "model"
MANIFEST = "manifest.json"


def read_manifest(folder: Path = MODEL_DIR) -> dict[str, Any]:
    """The manifest of a built model. Raises DataError when there is none."""
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    return manifest


def digests_of(folder: Path = MODEL_DIR) -> dict[str, str]:
    """Digest of every file of the model but the manifest itself."""
    return {
        path.name: digest_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }


def verify(folder: Path = MODEL_DIR) -> None:
    """Raise DataError naming the files that are not those that were built."""
    known, found = read_manifest(folder)["files"], digests_of(folder)
    differing = sorted(name for name in {*known, *found} if known.get(name) != found.get(name))
    if differing:
        raise DataError(f"{folder}: not as built: {', '.join(differing)}; run 'cai sandbox build'")


def digests_of_constitutions(constitutions: Iterable[Constitution]) -> dict[str, str]:
    """Digest by reference, as the manifest has them."""
    return {one.ref: one.digest for one in constitutions}


def constitutions_differ(
    now: Mapping[str, str] | Iterable[Constitution], folder: Path = MODEL_DIR
) -> list[str]:
    """References whose text the model was not trained on: changed, new, or gone since the build.

    `now` is the constitutions, or their digests by reference. Drafts are left out: they change.
    """
    digests = dict(now) if isinstance(now, Mapping) else digests_of_constitutions(now)
    known: dict[str, str] = read_manifest(folder)["constitutions"]
    return sorted(
        ref
        for ref in {*known, *digests}
        if known.get(ref) != digests.get(ref) and not ref.endswith("@draft")
    )


def prompt_digests() -> dict[str, str]:
    """Digests of the words in which critiques, revisions and comparisons are asked for."""
    return {"critique": CRITIQUE_DIGEST, "compare": COMPARE_DIGEST}


def world_digest() -> str:
    """Digest of the tables that make the world: topics and facts, ways to ask and to answer."""
    tables = {
        "topics": {name: (topic.split, topic.slots()) for name, topic in TOPICS.items()},
        "frames": {split: asdict(frames) for split, frames in phrasing.FRAMES.items()},
        "deeds": {kind: asdict(deeds) for kind, deeds in phrasing.DEEDS.items()},
        "wording": {name: value for name, value in vars(wording).items() if name.isupper()},
        "base": [answers.BASE_CORES, answers.BASE_DECORATIONS],
        "parts": {name: asdict(parts) for name, parts in principles.PARTS.items()},
        "planted": [dimensions.CLEAR_P_FIRST, dimensions.SUBTLE_P_FIRST, dimensions.TIE_P_FIRST],
    }
    return digest_json(tables)
