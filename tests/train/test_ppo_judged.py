"""PPO watched by a judge: what stops it, which weights come out, what is asked before it begins.

The reward is the length of an answer in characters, which the policy learns in a few iterations;
the judge likes short answers, so the reward is gamed.
"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai.engine.scripted import ScriptedEngine
from cai.errors import JudgeError, NotFoundError
from cai.train.curves import read_curves
from tests.feedback.helpers import judge_engine
from tests.server.helpers import make_store
from tests.train.ppo_runs import settings, write_models, write_prompts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' and accelerate's own, at import
    import torch
    from safetensors.torch import load_file

    from cai.train import ppo, ppo_parts
    from cai.train.ppo_rewards import PpoPrompt
    from cai.train.ppo_schedule import Schedule
    from cai.train.rollouts import Episode
    from tests.tiny_model import make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class PaysForLength:
    """A source of rewards: a hundredth per character."""

    def score(self, answers: Any) -> list[float]:
        return [len(one.text) / 100 for one in answers]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def constitutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path / "constitutions")
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))


def judged_by(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(_address: str) -> ScriptedEngine:
        return engine

    monkeypatch.setattr(ppo_parts, "open_engine", opened)


def likes_short(a: str, b: str, _question: str) -> float:
    return 1 / (1 + math.exp((len(a) - len(b)) / 4))


def long_settings(folder: Path, models: Path, **given: Any) -> Any:
    """Every iteration validated on a hundred prompts of their own."""
    values = {
        "data": (write_prompts(folder / "many.jsonl", num=120),),
        "validation_share": 0.5,
        "rollout_size": 64,
        "batch_size": 32,
        "learning_rate": 1e-2,
        "value_learning_rate": 1e-2,
        "kl_coef": 0.0,
        "evals_per_epoch": 1000,
        "epochs": 20,
        "patience": None,
        "judge": "scripted",
        "constitution": "toy@1",
    }
    return settings(folder, models, **{**values, **given})


def done_of(config: Any) -> dict[str, Any]:
    return json.loads((config.run_dir / "DONE").read_text())


def assert_exported(config: Any, made: Any, step: int) -> None:
    """What came out is the checkpoint of `step`, and all that speak of the best name it."""
    assert made.metrics["best_step"] == step
    assert json.loads((config.run_dir / "watch.json").read_text())["best_step"] == step
    stored = load_file(config.run_dir / f"checkpoints/checkpoint-{step}/model.safetensors")
    exported = load_file(config.out / "model.safetensors")
    assert all(torch.equal(stored[name].to(one.dtype), one) for name, one in exported.items())


@pytest.mark.usefixtures("constitutions")
def test_a_gamed_reward_stops_the_run_and_the_judges_best_comes_out(tmp_path, models, monkeypatch):
    """Within twenty iterations the answers are twice as long, and beat the reference's no more."""
    judged_by(judge_engine(likes_short), monkeypatch)
    monkeypatch.setattr(ppo_parts, "_open_rewards", lambda *_: PaysForLength())
    config = long_settings(tmp_path, models, watch={"kl_budget": None})
    made = ppo.run(config)
    rows = read_curves(config.run_dir)
    assert rows[-1]["watch/proxy_reward"] > 1.5 * rows[0]["watch/proxy_reward"]
    assert rows[-1]["watch/win_rate"] < 0.5 * rows[0]["watch/win_rate"]
    best = int(made.metrics["best_step"])
    assert 1 <= best <= len(rows) - 3
    reason = done_of(config)["stopped_because"]
    assert "the reward no longer measures what the judge values" in reason
    assert reason.endswith(f"the best weights are those of step {best}")
    assert_exported(config, made, best)


@pytest.mark.usefixtures("constitutions")
def test_the_kl_budget_stops_the_run_and_what_is_beyond_it_is_not_kept(
    tmp_path, models, monkeypatch
):
    """The judge likes what drifts, so that the last weights are the best but for the budget."""
    judged_by(judge_engine(lambda a, b, _q: 1 - likes_short(a, b, _q)), monkeypatch)
    monkeypatch.setattr(ppo_parts, "_open_rewards", lambda *_: PaysForLength())
    config = long_settings(tmp_path, models, watch={"kl_budget": 4.0})
    made = ppo.run(config)
    rows = read_curves(config.run_dir)
    assert "nats, the budget 4.0" in done_of(config)["stopped_because"]
    assert rows[-1]["watch/kl"] > 4.0
    best = int(made.metrics["best_step"])
    assert best < rows[-1]["step"]
    assert all(row["watch/kl"] <= 4.0 for row in rows[:-1])
    assert_exported(config, made, best)


def test_patience_stops_a_run_that_gets_no_better(tmp_path, models, monkeypatch):
    """The reward of the first validation is never reached again."""
    falling = (float(-n) for n in range(100))

    class Falls(PaysForLength):
        def score(self, answers: Any) -> list[float]:
            return [next(falling)] * len(answers)

    monkeypatch.setattr(ppo_parts, "_open_rewards", lambda *_: Falls())
    config = settings(tmp_path, models, evals_per_epoch=1000, epochs=8, patience=2)
    made = ppo.run(config)
    assert done_of(config)["stopped_because"] == (
        "no new best in 2 validations; the best weights are those of step 1"
    )
    assert [row["step"] for row in read_curves(config.run_dir)] == [1, 2, 3]
    assert_exported(config, made, 1)


def test_a_judged_run_is_validated_often_enough_to_tell_a_decline(tmp_path, models):
    """A validation each 20 of 40 iterations: for a judge it is each 5, which makes eight."""
    given = {"rollout_size": 16, "micro_batch_size": 8, "epochs": 2, "evals_per_epoch": 1}
    config = settings(tmp_path, models, **given)
    assert Schedule.of(config, 320).eval_every == 20
    judged = settings(tmp_path, models, **given, judge="sandbox", constitution="toy@1")
    assert Schedule.of(judged, 320).eval_every == 5


@pytest.mark.usefixtures("constitutions")
@pytest.mark.parametrize(
    ("given", "error"),
    [({"constitution": "none@1"}, NotFoundError), ({}, JudgeError)],
    ids=["no such constitution", "a judge that does not answer"],
)
def test_a_judge_that_will_not_do_is_told_before_anything_is_sampled(
    tmp_path, models, monkeypatch, given, error
):
    judged_by(judge_engine(likes_short, mass=1e-6), monkeypatch)
    begun: list[Any] = []
    monkeypatch.setattr(ppo_parts, "_open_rollouts", lambda *args: begun.append(args))
    with pytest.raises(error):
        ppo.run(long_settings(tmp_path, models, **given))
    assert not begun


def test_baselines_are_made_once_for_a_policy_and_a_length(tmp_path, models):
    """Of another policy or another length they are made anew."""
    sampled: list[int] = []

    class Sampler:
        def sample(self, prompts: Any, *, max_tokens: int, greedy: bool) -> list[Episode]:
            assert greedy
            sampled.append(len(prompts))
            return [Episode(ids, (10, 11), (), True) for ids in prompts]

    tokenizer = make_tokenizer()
    prompts = [PpoPrompt(str(n), (), (n,)) for n in range(3)]
    config = settings(tmp_path, models)
    config.run_dir.mkdir()

    def made(digest: str, num: int, **given: Any) -> dict[str, str]:
        policy = SimpleNamespace(
            digest=digest, tokenizer=tokenizer, config=config.model_copy(update=given)
        )
        return ppo_parts._baselines(policy, Sampler(), prompts[:num])

    first = made("sha256:a", 2)
    assert made("sha256:a", 3) == {**first, "2": tokenizer.decode([10, 11])}
    made("sha256:a", 3)
    assert sampled == [2, 1]
    made("sha256:b", 3)
    made("sha256:b", 3, max_new_tokens=5)
    assert sampled == [2, 1, 3, 3]
