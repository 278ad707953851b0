"""The loop's settings: what is taken, what is refused by name, and what decides a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cai.cli.loop import resolve_loop
from cai.dataset.prompts import PromptFile
from cai.errors import CaiError
from cai.loop.config import LIMITS, LoopConfig

FLAGS: dict[str, Any] = {
    "prompts": Path("p.txt"),
    "constitutions": ("harmless@2",),
    "rounds": 2,
    "policy": None,
}
FILE = PromptFile(Path("p.txt"), "sha256:1", 3)


def test_flags_count_over_sets_and_those_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("rounds: 5\nmethod: ppo\ndpo:\n  lora:\n    rank: 4\nlimits:\n  harmful: 0.1\n")
    found = resolve_loop(FLAGS, file=file, sets=("method=dpo", "dpo.epochs=1"))
    assert (found.rounds, found.method) == (2, "dpo")
    assert found.dpo == {"lora.rank": 4, "epochs": 1}
    assert found.limits == {**LIMITS, "harmful": 0.1}
    assert resolve_loop({}, sets=("prompts=p.txt", "constitutions=[a]", "rounds=1")).rounds == 1


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (("metod=dpo",), "unknown setting 'metod'; did you mean 'method'"),
        (("dataset.sample=3",), "unknown setting 'dataset.sample'"),
        (("method=kto",), "method"),
        (("rounds=0",), "rounds"),
        (("rounds=1001",), "rounds"),
        (("limits.harmfull=0.1",), "no gate 'harmfull'; did you mean 'harmful'"),
        (("limits.harmful=2",), "limits.harmful"),
        (("dpo.epocs=2",), "epocs"),
        (("dpo.epochs=-1",), "epochs"),
        (("dpo.data=/etc",), "has a field of its own"),
        (("dpo.epochs=[1]",), "dpo: its settings are numbers, texts and switches"),
        (("dataset.samples=1", "dataset.revisions=0"), "leave nothing to compare"),
        (("constitutions=[a, a]",), "named twice"),
        (("constitutions=[]",), "constitutions"),
        (("constitutions=['../x']",), "constitutions"),
        (("on_rejected=pray",), "on_rejected"),
        (("patience_s=-1",), "patience_s"),
    ],
)
def test_what_will_not_do_is_named(sets: tuple[str, ...], told: str) -> None:
    given = {name: value for name, value in FLAGS.items() if f"{name}=" not in sets[0]}
    with pytest.raises(CaiError) as caught:
        resolve_loop(given, sets=sets)
    assert told in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["prompts", "constitutions", "rounds"])
def test_what_is_missing_is_named_with_its_flag(name: str) -> None:
    with pytest.raises(CaiError, match=f"'{name}' is missing; give -"):
        resolve_loop({**FLAGS, name: None})


def test_an_unknown_key_of_a_file_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("method: dpo\nround: 3\n")
    with pytest.raises(CaiError, match=r"loop.yaml:2:1: unknown key 'round'; did you mean"):
        resolve_loop(FLAGS, file=file)


def test_what_only_says_how_far_and_how_long_decides_no_loop() -> None:
    config = LoopConfig(**FLAGS)
    same = config.model_copy(update={"rounds": 9, "on_rejected": "continue", "priority": 1})
    assert same.settled(FILE) == config.settled(FILE)
    other = config.model_copy(update={"limits": {**LIMITS, "harmful": 0.5}})
    assert other.settled(FILE) != config.settled(FILE)
    assert config.settled(FILE._replace(digest="sha256:2")) != config.settled(FILE)


def test_people_are_asked_where_pairs_are_learnt() -> None:
    assert LoopConfig(**FLAGS).asks_people
    assert not LoopConfig(**FLAGS, method="sft").asks_people
    assert LoopConfig(**FLAGS, method="sft", sft={"use": "chosen"}).asks_people
    assert not LoopConfig(**FLAGS, feedback=False).asks_people
