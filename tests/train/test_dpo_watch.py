"""DPO's watch: where its reference is read, and what several processes see of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cai.errors import ConfigError
from cai.train import dpo, dpo_watch, trainer_common
from cai.train.base import load_policy
from cai.train.dpo_watch import DpoWatch, open_watch
from cai.train.encode import Fit
from cai.train.pairs_data import PairRows, encode_pairs
from cai.train.rows import Pair
from cai.train.watch import Observation, WinRate
from cai.types import Message
from tests.train.pairs import dpo_config, rows, write

PAIRS = [
    Pair("1", (Message("user", "quick?"),), "fox and dog", "lazy", 0.8),
    Pair("2", (Message("user", "boil?"),), "seven", "quick brown", 0.6),
]
VALIDATED = {"kl": 1.0, "rewards/margins": 0.5}


def opened(root: Path, model: Path, **more: Any) -> Any:
    config = dpo_config(root, model, root / "none.jsonl", max_length=64, **more)
    policy = load_policy(str(model), config)
    encoded = encode_pairs(PAIRS, policy.encoder, Fit(64))
    pairs = PairRows([], [pair for _, pair in encoded], [row for row, _ in encoded], Fit(64))
    return open_watch(policy, pairs)


@pytest.mark.parametrize(("world_size", "device"), [(1, "cuda"), (2, None)])
def test_the_reference_is_read_where_the_policy_is_trained(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    world_size: int,
    device: str | None,
) -> None:
    """The policy goes to the GPU as it is loaded; of several processes accelerate places it."""
    asked = []

    def load(*_args: Any, **more: Any) -> Any:
        asked.append(more["device"])
        raise ConfigError("far enough")

    monkeypatch.setattr(dpo, "load_policy", load)
    monkeypatch.setattr(trainer_common, "device_of_training", lambda: "cuda")
    monkeypatch.setattr(trainer_common, "world_size", lambda: world_size)
    with pytest.raises(ConfigError, match="far enough"):
        dpo.run(dpo_config(tmp_path, model_folder, write(tmp_path / "pairs.jsonl", rows(8))))
    assert asked == [device]


def test_another_process_asks_no_judge_and_decides_as_the_main_one(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one would go on, at a KL of 1; the main one saw 200, beyond the budget of 100."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(dpo_watch, "Judging", None)  # opening one would be an error
    seen = Observation(5, 200.0, 0.5, win_rate=WinRate(0.7, 100))
    monkeypatch.setattr(dpo_watch, "from_main", lambda _make: seen)
    judge = {"judge": "scripted:judge.yaml", "constitution": "toy@1"}
    with opened(tmp_path, model_folder, **judge) as watch:
        assert watch.observe(5, VALIDATED, [])["watch/win_rate"] == 0.7
        assert "KL to the reference is 200.0" in watch.reason_to_stop([])


def test_a_kl_that_is_no_number_stops_the_run(tmp_path: Path, model_folder: Path) -> None:
    watch: DpoWatch
    with opened(tmp_path, model_folder) as watch:
        watch.observe(5, {**VALIDATED, "kl": math.nan}, [])
        assert "not both finite" in (watch.reason_to_stop([]) or "")
