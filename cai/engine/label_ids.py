"""Token ids of the labels that a judge chooses between: one token each, all different.

Start from `LabelIds.of`, which keeps what it found.
"""

from __future__ import annotations

from cai.engine.template import ChatRenderer
from cai.errors import InputError, UnsupportedError

_MAX_SETS = 1000


class LabelIds:
    """The labels of one tokenizer."""

    def __init__(self, renderer: ChatRenderer) -> None:
        self._renderer = renderer
        self._known: dict[tuple[str, ...], list[int]] = {}

    def of(self, labels: tuple[str, ...]) -> list[int]:
        """One id per label, in order. Raises InputError for none, UnsupportedError for unfit."""
        if not labels:
            raise InputError("there are no labels to score", param="labels")
        if labels not in self._known:
            found = _token_ids(self._renderer, labels)
            if len(self._known) >= _MAX_SETS:
                self._known.clear()
            self._known[labels] = found
        return self._known[labels]


def _token_ids(renderer: ChatRenderer, labels: tuple[str, ...]) -> list[int]:
    ids = []
    for label in labels:
        encoded = renderer.encode_content(label)
        if len(encoded) != 1:
            raise UnsupportedError(
                f"the label '{label}' is {len(encoded)} tokens for this model; use one-token labels"
            )
        ids += encoded
    if len(set(ids)) != len(ids):
        raise UnsupportedError(f"two of the labels {list(labels)} are the same token")
    return ids
