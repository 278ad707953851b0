"""A file or a run into the queue, and what of it could not be used. Start from `import_file`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.dataset.importers.records import Skipped
from cai.errors import DataError
from cai.review.items import iter_drafts
from cai.review.records import ItemDraft, Kind

if TYPE_CHECKING:
    from cai.review.queue import ReviewQueue

_MAX_SHOWN = 20


def import_file(
    queue: ReviewQueue, path: Path, *, kind: Kind = "pair", **how: Any
) -> dict[str, Any]:
    """Put what `path` holds into the queue; `how` is as `ReviewQueue.add` takes it.

    Returns the counts of new and known items, the skipped by reason, and the first such lines.
    Raises DataError where nothing could be used.
    """
    skipped: Counter[str] = Counter()
    lines: list[dict[str, Any]] = []

    def usable() -> Iterator[ItemDraft]:
        for draft in iter_drafts(path, kind=kind):
            if not isinstance(draft, Skipped):
                yield draft
                continue
            skipped[draft.reason] += 1
            if len(lines) < _MAX_SHOWN:
                lines.append(draft._asdict())

    added = queue.add(usable(), **how)
    if not sum(added):
        why = f": {lines[0]['reason']}, {lines[0]['detail']}" if lines else ""
        raise DataError(f"{path}: nothing in it can be reviewed{why}", param="file")
    return {
        "new": added.new,
        "known": added.known,
        "skipped": dict(sorted(skipped.items())),
        "lines": lines,
    }
