"""Polishing a built model: where it came from is told, and nothing is written over it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from cai.cli.sandbox import app
from cai.errors import ConfigError, DataError
from cai.sandbox import build as building
from cai.sandbox import manifest
from cai.sandbox.batches import Row
from cai.sandbox.build.training import rows_loss
from cai.sandbox.tokenizer import PAD

ROOT = Path(__file__).parents[2]


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes minutes, and is not what these tests are about."""
    monkeypatch.setattr(building, "measure_model", lambda *_: {})


@pytest.mark.usefixtures("unmeasured")
def test_a_polished_model_says_what_it_came_from(tmp_path: Path) -> None:
    source = manifest.MODEL_DIR
    written = building.refine(
        source, tmp_path / "m", polish_steps=1, constitutions=ROOT / "constitutions"
    )
    before = manifest.read_manifest(source)
    assert written["refined_from"]["weights"] == before["files"]["model.safetensors"]
    assert written["refined_from"]["recipe"] == before["recipe"]
    assert written["files"]["tokenizer.json"] == before["files"]["tokenizer.json"]
    assert written["files"]["model.safetensors"] != before["files"]["model.safetensors"]
    manifest.verify(tmp_path / "m")


def test_a_model_that_is_not_as_built_is_not_polished(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(manifest.MODEL_DIR, source)
    (source / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"config\.json"):
        building.refine(source, tmp_path / "m")


@pytest.mark.parametrize("out", [[], ["--out", str(manifest.MODEL_DIR)]])
def test_polishing_writes_a_new_folder(out: list[str]) -> None:
    done = CliRunner().invoke(app, ["build", "--refine", str(manifest.MODEL_DIR), *out])
    assert isinstance(done.exception, ConfigError)


def test_a_rate_without_polishing_is_refused() -> None:
    done = CliRunner().invoke(app, ["build", "--rate", "0.001"])
    assert isinstance(done.exception, ConfigError)


class Flat(torch.nn.Module):
    """A model whose every next token has the logits 2 and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.model = self
        self.lm_head = torch.nn.Linear(1, 2, bias=False)
        self.lm_head.weight.data = torch.tensor([[2.0], [0.0]])

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        hidden = torch.ones((*input_ids.shape, 1))
        return type("Out", (), {"last_hidden_state": hidden})


def test_words_are_learned_at_the_temperature_of_sharpness() -> None:
    """-log softmax([2, 0] / 2)[0] = log(1 + e^-1) = 0.3133; at 1 it is log(1 + e^-2) = 0.1269."""
    encoder: Any = type("Encoder", (), {"ids": {PAD: 0}})
    rows = [Row([0, 0], [False, True])]
    assert rows_loss(Flat(), encoder, rows, 2.0).item() == pytest.approx(0.3133, abs=1e-4)
    assert rows_loss(Flat(), encoder, rows, 1.0).item() == pytest.approx(0.1269, abs=1e-4)
