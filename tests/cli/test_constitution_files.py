"""`cai constitution`: diff, import, export, changelog and publish, from the command line."""

import json

import pytest

from cai.cli.main import main
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore
from tests.constitution.helpers import TEXT, parse, write


@pytest.fixture
def root(tmp_path, monkeypatch):
    """kind@1 and kind@2 in the folder that the settings name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "constitutions"
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(folder))
    store = ConstitutionStore(folder)
    for title in ("Be kind", "Be kinder"):
        write(folder, text=TEXT.replace("Be kind", title))
        release(store, "kind")
    return folder


def run(*argv):
    return main(["constitution", *map(str, argv)])


def test_a_diff_as_text_json_and_html(root, tmp_path, capsys):
    assert run("diff", "kind@1", "kind@2") == 0
    assert capsys.readouterr().out.splitlines() == [
        *("kind@1 -> kind@2", "~ title: Be [-kind-]{+kinder+}")
    ]
    assert run("diff", "kind@1", "kind@2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changes"][0]["key"] == "title"
    assert run("diff", "kind@1", "kind@2", "--format", "json", "--out", tmp_path / "d.json") == 0
    assert json.loads((tmp_path / "d.json").read_text())["to"]["ref"] == "kind@2"
    assert run("diff", "kind@1", "kind@2", "--format", "html", "--out", tmp_path / "d.html") == 0
    assert "<del>kind</del><ins>kinder</ins>" in (tmp_path / "d.html").read_text()


def test_an_export_comes_back_as_a_draft(root, tmp_path, capsys):
    assert run("export", "kind@2", "--format", "json", "--out", tmp_path / "k.json") == 0
    assert run("import", tmp_path / "k.json", "--name", "copy", "--note", "mine") == 0
    assert "2 principles and 1 cases from the form json" in capsys.readouterr().out
    assert run("show", "copy@draft", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["provenance"]["note"] == "mine"
    assert [one["id"] for one in shown["principles"]] == ["no-insult", "be-brief"]
    assert run("import", tmp_path / "k.json", "--name", "copy", "--json") == 1
    assert run("export", "kind@2", "--format", "yaml") == 0
    assert parse(capsys.readouterr().out).ref == "kind@2"


def test_releasing_keeps_the_changelog(root, capsys):
    write(root, text=TEXT.replace("Be kind", "Be kindest"))
    assert run("release", "kind") == 0
    changes = (root / "kind" / "CHANGELOG.md").read_text()
    assert "## kind@3: Be kindest" in changes
    capsys.readouterr()
    assert run("changelog", "kind") == 0
    assert capsys.readouterr().out == changes
    (root / "kind" / "CHANGELOG.md").unlink()
    assert run("changelog", "kind", "--write") == 0
    assert (root / "kind" / "CHANGELOG.md").read_text() == changes


def test_a_page_is_published_and_says_what_is_missing(root, tmp_path, capsys):
    assert run("publish", "kind@2", "--out", tmp_path / "kind.html") == 0
    assert "Be kinder" in (tmp_path / "kind.html").read_text()
    assert "no judge has tested it; run: cai constitution test kind@2" in capsys.readouterr().err
    assert run("publish", "kind@2", "--out", tmp_path / "kind.txt") == 2
    assert "let its name end in .html" in capsys.readouterr().err


def test_a_draft_may_begin_on_a_base(root, capsys):
    assert run("new", "child", "--extends", "kind@2") == 0
    capsys.readouterr()
    assert run("show", "child@draft") == 0
    assert "extends kind@2, whose principles are included" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["diff", "kind@1", "kind@9"], "no constitution 'kind@9'"),
        (["import", "none.json", "--name", "x"], "cannot be read: No such file"),
        (["export", "kind@1", "--format", "toml"], "no form 'toml'"),
        (["changelog", "other"], "'other' has no release"),
        (["new", "x", "--extends", "kind"], "write the version too, as in kind@1"),
    ],
)
def test_bad_input_is_exit_2_with_the_way_out(root, capsys, argv, message):
    assert run(*argv) == 2
    assert message in capsys.readouterr().err
