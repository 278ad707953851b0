"""What reaches the terminal."""

import json

import pytest

from cai.cli import output
from cai.cli.output import clean, print_json, print_table, progress, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 \t\n", "plain é 漢 \t\n"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\rb\x08c\x7fd\x9be", "abcde"),
        ("a\r\nb", "a\nb"),
        ("\u202eabc\u202c\u2066d\u2069", "abcd"),
        ("half \ud800", "half "),
    ],
)
def test_only_harmless_characters_are_shown(text, shown):
    assert clean(text) == shown


def test_json_keeps_its_values_and_escapes_what_is_unsafe(capsys):
    value = {"text": "é \x1b \x9b \u202e \ud800", "n": 1.5}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert clean(printed) == printed
    assert "é" in printed


def test_a_table_in_a_pipe_has_one_line_per_row(capsys):
    print_table(("a", "b"), [("x" * 60, "y" * 60), ("[bold]z[/]", None)])
    assert capsys.readouterr().out.splitlines()[1].split() == ["x" * 60, "y" * 60]


def test_markup_in_a_cell_is_text(capsys):
    print_table(("a",), [("[red]x[/red]",)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_remarks_go_to_stderr(capsys):
    say("note \x1b[0m")
    told = capsys.readouterr()
    assert told.err == "note [0m\n"
    assert told.out == ""


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    """Lines every 10 s; the clock here moves 4 s per look, so not every row has one."""
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with progress("rows", 8) as bar:
        for _ in range(8):
            bar.advance(note="2.0 rows/s")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "rows 8/8  2.0 rows/s"
    assert 1 < len(lines) < 8


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress("rows", 2) as bar:
        bar.advance(2, note="fast \x1b")
    told = capsys.readouterr()
    assert "2/2" in told.err
    assert told.out == ""
