"""`cai review`: a terminal session from import to export, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cai.cli.main import main
from cai.files import read_jsonl
from tests.dataset.rows import row


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row(n, p_chosen=0.7 + n / 10)) + "\n" for n in range(2)))
    return path


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> object:
    assert main(["review", *argv, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_session_from_import_to_rows(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported = told(capsys, "import", str(rows), "--random-share", "0")
    assert imported[str(rows)]["new"] == 2
    first = told(capsys, "next", "--rater", "ann")
    assert first["prompt"][0]["content"] == "question 0?"
    better = "a" if "better" in first["answers"][0][0]["content"] else "b"
    made = told(capsys, "decide", first["id"], better, "--rater", "ann", "--comment", "yes")
    assert (made["choice"], made["comment"]) == (better, "yes")
    second = told(capsys, "next", "--rater", "ann")
    told(capsys, "decide", second["id"], "tie", "--rater", "ann")
    assert told(capsys, "next", "--rater", "ann") is None
    stats = told(capsys, "stats")
    assert (stats["queue"]["items"], stats["queue"]["open"]) == (2, 0)
    assert stats["all"]["with_judge"]["agreed"]["n"] == 1
    out = rows.with_name("people.jsonl")
    assert told(capsys, "export", "--format", "rows", "--out", str(out))["rows"] == 1
    (human,) = read_jsonl(out)
    assert (human["labeler"], human["chosen"], human["id"]) == (
        "ann",
        row(0)["chosen"],
        row(0)["id"],
    )
    for format in ("jsonl", "annotated-pairs"):
        told(capsys, "export", "--format", format, "--out", str(rows.with_name(format)))


def test_it_speaks_to_people_without_naming_the_makers(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "import", str(rows)]) == 0
    assert "2 new items, 0 known" in capsys.readouterr().out
    assert main(["review", "next", "--rater", "ann"]) == 0
    shown = capsys.readouterr()
    assert "question" in shown.out
    assert "base" not in shown.out
    assert "next: cai review decide rv-" in shown.err
    id = shown.out.split()[0]
    assert main(["review", "decide", id, "a", "--rater", "ann"]) == 0
    capsys.readouterr()
    assert main(["review", "stats"]) == 0
    lines = capsys.readouterr().out
    assert "2 items" in lines
    assert "rater ann" in lines


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("import", "none.jsonl"), "none.jsonl: no such file"),
        (("import", "rows.jsonl", "--as", "stars"), "no kind 'stars'; did you mean 'pairs'?"),
        (("decide", "rv-none", "a"), "there is no review item 'rv-none'"),
        (("decide", "rv-none", "7"), "'7' is no decision; say a, b, tie or skip, or 1 to 5"),
        (("export", "--out", "x", "--format", "xml"), "no format 'xml'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    rows: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str
) -> None:
    assert main(["review", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
