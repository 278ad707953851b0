"""`cai jobs`: a job from a file or from flags, what is shown of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai.cli.main import main
from cai.jobs.logs import log_path
from tests.jobs.helpers import Workshop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    with Workshop(tmp_path) as shop:
        monkeypatch.chdir(tmp_path)
        for name, value in shop.env().items():
            if name.startswith("CAI_"):
                monkeypatch.setenv(name, value)
        (tmp_path / "prompts.txt").write_text("one\ntwo\n")
        yield shop


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """The JSON that a command printed, which ended well."""
    capsys.readouterr()
    assert main(["jobs", *args, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_job_from_a_file_with_flags_over_it(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop.folder / "job.yaml").write_text(
        f"kind: dataset\npriority: 10\nparams:\n  constitution: t@draft\n"
        f"  engine: {shop.engine}\n  limit: 5\n"
    )
    args = ("job.yaml", "--upload", "prompts.txt", "--set", "limit=1", "--priority", "80")
    made = answer(capsys, "submit", *args)
    assert (made["state"], made["priority"], made["params"]["limit"]) == ("queued", 80, 1)
    assert made["actor"].startswith("local")
    content = shop.jobs.place.files.path(made["params"]["prompts"]).read_text()
    assert content == "one\ntwo\n"
    assert [one["id"] for one in answer(capsys, "list")] == [made["id"]]
    shown = answer(capsys, "show", made["id"])
    assert [event["type"] for event in shown["events"]] == ["submitted"]


def test_a_job_is_cancelled_once(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    id = shop.submit().id
    assert answer(capsys, "cancel", id)["state"] == "cancelled"
    assert main(["jobs", "cancel", id]) == 1
    assert capsys.readouterr().err == f"cai: the job '{id}' is cancelled already\n"
    assert answer(capsys, "list", "--state", "queued") == []


def test_what_is_shown_has_the_error_and_no_control_characters(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    id = shop.submit().id
    shop.jobs.store.begin_attempt(id, "w1")
    shop.jobs.store.finish(id, "failed", error="bad \x1b[2J value")
    assert main(["jobs", "show", id]) == 0
    printed = capsys.readouterr().out
    assert "bad [2J value" in printed
    assert main(["jobs", "list"]) == 0
    assert id in capsys.readouterr().out


def test_logs_are_followed_to_the_end(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    id = shop.submit().id
    path = log_path(shop.home, id)
    path.parent.mkdir(parents=True)
    path.write_text("first\nsecond\n")
    assert main(["jobs", "logs", id]) == 0
    assert capsys.readouterr().out == "first\nsecond\n"
    shop.jobs.store.cancel(id, actor="me")
    assert main(["jobs", "logs", id, "-f"]) == 0
    assert capsys.readouterr().out == "first\nsecond\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("submit",), "give a FILE, or --kind"),
        (("submit", "--kind", "datset"), "did you mean 'dataset'"),
        (("submit", "--kind", "dataset", "--set", "promts=x"), "did you mean 'prompts'"),
        (("submit", "--kind", "dataset", "--set", "prompts"), "write key=value"),
        (("submit", "--kind", "dataset", "--set", "prompts=../x"), "params.prompts"),
        (("submit", "none.yaml"), "none.yaml"),
        (("submit", "--kind", "eval", "--set", "policies=[nobody]"), "no policy 'nobody'"),
        (("show", "none"), "no job 'none'"),
        (("cancel", "../x"), "no id of a job"),
        (("list", "--state", "done"), "no state 'done'"),
    ],
)
def test_bad_usage_is_exit_2_and_one_line(
    shop: Workshop, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    assert main(["jobs", *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
