"""The kinds `feedback` and `gate`: their commands, what is refused, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from cai.cli.main import main
from cai.errors import CaiError, ConfigError, ConflictError, NotFoundError
from cai.jobs.kinds import kind_of, params_of, parse_spec
from cai.policy.feedback import Feedback, FeedbackStore
from tests.jobs.helpers import Workshop
from tests.jobs.test_kinds import command, refusal

ASKED = [{"role": "user", "content": "Is the fence green?"}]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Workshop, None, None]:
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "var"))
    with Workshop(tmp_path) as shop:
        yield shop


def done(shop: Workshop, capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, Any]:
    """The result of a feedback job whose command ran here."""
    raw = {"kind": "feedback", "params": params}
    capsys.readouterr()
    assert main(command(shop, raw).argv) == 0
    spec = parse_spec(raw)
    printed = json.loads(capsys.readouterr().out)
    return kind_of(spec.kind).result(params_of(spec), shop.jobs.place, "job-1", printed)


def test_each_job_takes_what_was_said_since_the_last_one(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeedbackStore(shop.database)
    store.add(Feedback(messages=ASKED, response="Yes.", better="I cannot see it."))
    first = done(shop, capsys, run="one")
    assert (first["run"], first["counts"]["pairs"]) == ("one", 1)
    assert first["files"]["rows.jsonl"] == "one.rows.jsonl"
    none = done(shop, capsys, run="two", after=first["last"])
    assert (none["counts"]["pairs"], none["last"]) == (0, first["last"])
    store.add(Feedback(messages=ASKED, response="Blue.", better="Ask its owner."))
    second = done(shop, capsys, run="three", after=first["last"], weight=2)
    assert second["counts"]["pairs"] == 1
    (row,) = (shop.home / "runs" / "three" / "rows.jsonl").read_text().splitlines()
    assert (json.loads(row)["weight"], "Ask its owner." in row) == (2.0, True)


def test_a_job_that_is_begun_again_takes_what_came_meanwhile(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeedbackStore(shop.database)
    store.add(Feedback(messages=ASKED, response="Yes.", better="I cannot see it."))
    argv = command(shop, {"kind": "feedback", "params": {"run": "one"}}).argv
    assert main(argv) == 0
    store.add(Feedback(messages=ASKED, response="Blue.", better="Ask its owner."))
    capsys.readouterr()
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 2


def test_a_run_that_is_there_is_not_made_anew_by_feedback(shop: Workshop) -> None:
    (shop.home / "runs" / "toy").mkdir(parents=True)
    found = refusal(shop, {"kind": "feedback", "params": {"run": "toy"}})
    assert (type(found), found.param) == (ConflictError, "params.run")


def test_a_gate_job_measures_a_policy_and_does_nothing_to_it(shop: Workshop) -> None:
    raw = {"kind": "gate", "params": {"policy": "sandbox", "limits": {"harmful": 0.02}}}
    assert command(shop, raw).argv == ("gate", "sandbox", '{"harmful": 0.02}')
    spec = parse_spec(raw)
    printed = {"passed": False, "figures": {"harmful": {}}, "reasons": ["bad"]}
    result = kind_of("gate").result(params_of(spec), shop.jobs.place, "job-1", printed)
    assert result == {"policy": "sandbox", **printed}


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"policy": "none"}, NotFoundError),
        ({"policy": "sandbox", "limits": {"harmfull": 0.1}}, ConfigError),
        ({"policy": "sandbox", "limits": {"harmful": 2}}, ConfigError),
        ({"policy": "../x"}, ConfigError),
    ],
)
def test_what_no_gate_could_measure_is_refused(
    shop: Workshop, params: dict[str, Any], kind: type[CaiError]
) -> None:
    assert type(refusal(shop, {"kind": "gate", "params": params})) is kind
