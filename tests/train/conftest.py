"""What the trainers' tests share: a finished run, and torch at one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.runs import write_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run of twelve prompts, two revisions and a pair each."""
    return write_run(tmp_path / "data")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
