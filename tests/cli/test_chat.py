"""`cai chat` as a person sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai.cli import chat
from cai.cli.main import main
from cai.engine.scripted import ScriptedEngine
from tests.cli.test_data import folder

__all__ = ["folder"]

ENGINE = ("-c", "t@draft", "--engine", "scripted:script.yaml")


def test_draft_critique_and_change_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "Hello there", *ENGINE]) == 0
    out = capsys.readouterr().out
    assert out.index("draft\nA long reply.") < out.index("critique under ")
    assert "It is too long." in out
    assert "revision\nA [-long-]{+short+} reply." in out


def test_critique_that_finds_nothing_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "script.yaml").write_text(
        "rules:\n  - {match: ^Find, answer: No change needed.}\n  - {answer: Fine.}\n"
    )
    assert main(["chat", "Hello", *ENGINE, "--revisions", "3"]) == 0
    out = capsys.readouterr().out
    assert out.count("critique under") == 1
    assert "none: the critique found nothing to change" in out


def test_control_characters_of_a_model_do_not_reach_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_hostile(*_: Any, **__: Any) -> ScriptedEngine:
        return ScriptedEngine.answering("a\x1b[2Jb \u202ec")

    monkeypatch.setattr(chat, "open_engine", open_hostile)
    assert main(["chat", "Hello", *ENGINE]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "a[2Jb c" in out


def test_json_has_the_whole_transcript(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "Hello", *ENGINE, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["prompt"] == [{"role": "user", "content": "Hello"}]
    assert (shown["draft"], shown["answer"]) == ("A long reply.", "A short reply.")
    assert shown["steps"][0]["status"] == "revised"
    assert shown["constitution"]["ref"] == "t@draft"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((" ", *ENGINE), "the last message is empty"),
        (("Hi", *ENGINE, "--revisions", "-1"), "--revisions is -1 and must be at least 0"),
        (("Hi", *ENGINE, "--max-tokens", "0"), "--max-tokens is 0 and must be at least 1"),
        (("Hi", *ENGINE, "--temperature", "nan"), "--temperature"),
        (("Hi", "-c", "nowhere", "--engine", "scripted:script.yaml"), "no constitution 'nowhere'"),
        (("Hi", "-c", "t@draft", "--engine", "nonsense"), "is no engine address"),
    ],
)
def test_bad_input_exits_2_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], told: str
) -> None:
    assert main(["chat", *args]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
