"""The place that loops are run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loop.scripted import Place, Server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, Server(), monkeypatch)
