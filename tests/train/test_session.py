"""A run is another one when what scores its answers changed, and its policy tells what that was."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from cai.errors import ConfigError
from cai.policy.manifest import read_manifest, seal
from tests.server.helpers import make_store
from tests.train.ppo_runs import settings, write_models

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # transformers' and accelerate's own, at import
    from cai.train import ppo, session, sft
    from cai.train.base import prepare
    from cai.train.sources import load_prompts
    from cai.types import Message
    from tests.train.runs import question, sft_config, transcript, write_lines, write_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OK = Message("assistant", "Put them in water.")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """PPO on a reward model, watched by a judge without a favourite; one iteration."""
    make_store(tmp_path / "constitutions")
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    judge = tmp_path / "judge.yaml"
    judge.write_text("rules:\n  - scores: {A: -0.7, B: -0.7}\n")
    given = {"judge": f"scripted:{judge}", "constitution": "toy@draft", "epochs": 0.5}
    return settings(tmp_path, write_models(tmp_path / "models"), **given)


def opened(config: Any) -> None:
    prepared = prepare(config.policy, config)
    with session.open_session(prepared, load_prompts(config.data)):
        pass


def test_a_reward_model_that_was_trained_again_makes_another_run(config):
    opened(config)
    opened(config)
    folder = Path(config.reward)
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    seal(folder, name="reward", kind="reward", method="reward", base="tiny")
    with pytest.raises(ConfigError, match=r"reward\.digest was sha256:.* and is sha256:"):
        opened(config)


def test_a_constitution_that_was_edited_makes_another_run(config, tmp_path):
    opened(config)
    draft = tmp_path / "constitutions" / "toy" / "draft.yaml"
    draft.write_text(draft.read_text().replace("Be kind", "Be very kind"))
    with pytest.raises(ConfigError, match=r"constitution\.digest was sha256:.* and is sha256:"):
        opened(config)


def test_a_password_decides_nothing_and_is_not_written_into_the_settings(config):
    config = config.model_copy(update={"reward": "http://me:secret@host/v1/rewards"})
    opened(config)
    assert "secret" not in (config.run_dir / "run.json").read_text()
    opened(config.model_copy(update={"reward": "http://me:changed@host/v1/rewards"}))


def test_the_manifest_tells_what_scored_the_answers_and_no_folder(config, tmp_path):
    made = ppo.run(config).manifest
    constitution = session.scoring_of(config).constitution
    assert made.constitutions == {"toy@draft": constitution.digest}
    assert made.reward_digest == read_manifest(Path(config.reward)).digest
    assert (made.config["reward"], made.config["judge"]) == ("reward", "scripted:judge.yaml")
    assert str(tmp_path) not in made.model_dump_json()


def test_a_draft_that_changed_since_the_data_was_made_is_told_beside_it(config):
    scoring = session.scoring_of(config)
    digest = scoring.constitution.digest
    known = {"toy@draft": "sha256:before"}
    assert scoring.constitutions(known) == {**known, f"toy@draft#{digest[7:15]}": digest}
    assert session.Scoring().constitutions(known) == known


def test_probes_of_shortened_rows_fit_what_was_trained_on(tmp_path, model_folder):
    """Every prompt has hundreds of tokens, and a row is what is left of it without its old turns.

    A probe that was not shortened would be refused by every engine.
    """
    data = write_run(tmp_path / "data")
    earlier = [message.as_dict() for n in range(20) for message in (*question(n), OK)]
    rows = (transcript(n, prompt=[*earlier, question(n)[0].as_dict()]) for n in range(12))
    write_lines(data / "transcripts.jsonl", rows)
    config = sft_config(tmp_path, data, model_folder, max_length=96, max_steps=1)
    manifest = sft.run(config).manifest
    assert manifest.metrics["rows_shortened"] == 24
    assert {len(one.prompt_ids + one.continuation_ids) for one in manifest.probes} == {95}
