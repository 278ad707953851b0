"""The kinds of jobs on constitutions: their commands, what is refused, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from cai.cli.main import main
from cai.errors import ConfigError, NotFoundError
from cai.jobs.kinds import kind_of, params_of, parse_spec
from tests.jobs.helpers import Workshop
from tests.jobs.test_kinds import command, refusal


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Workshop, None, None]:
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    with Workshop(tmp_path, url="http://127.0.0.1:8123") as shop:
        yield shop


def test_findings_are_a_result_and_no_failure(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    raw: dict[str, Any] = {"kind": "lint", "params": {"constitution": "t@draft"}}
    assert main(command(shop, raw).argv) == 0
    printed = json.loads(capsys.readouterr().out)
    spec = parse_spec(raw)
    result = kind_of("lint").result(params_of(spec), shop.jobs.place, "job-1", printed)
    assert result == {"constitution": "t@draft", "findings": printed}


def test_a_test_and_a_preview_ask_the_live_policy(shop: Workshop) -> None:
    params: dict[str, Any] = {"constitution": "t@draft", "tags": ["sandbox"], "strict": True}
    argv = command(shop, {"kind": "constitution-test", "params": params}).argv
    assert argv[:4] == ("constitution", "test", "t@draft", "--tag")
    assert argv[argv.index("--engine") + 1].endswith("/v1#live")
    assert {"--strict", "--exit-zero", "--json"} <= set(argv)


def test_unknown_constitutions_files_and_engines_are_refused(shop: Workshop) -> None:
    unknown = {"kind": "constitution-test", "params": {"constitution": "tt@draft"}}
    assert isinstance(refusal(shop, unknown), NotFoundError)
    given = {"old": "t@draft", "new": "t@draft", "prompts": "none"}
    assert isinstance(refusal(shop, {"kind": "impact", "params": given}), NotFoundError)
    engine = {"constitution": "t@draft", "engine": "vllm:/etc"}
    refused = refusal(shop, {"kind": "constitution-test", "params": engine})
    assert isinstance(refused, ConfigError)
