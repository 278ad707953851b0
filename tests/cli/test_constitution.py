"""`cai constitution`: the round from a new draft to a release, and exit codes on the way."""

import json

import pytest

from cai.cli.main import main
from tests.constitution.helpers import TEXT, write


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty folder of constitutions that the settings name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    return tmp_path / "constitutions"


def test_from_new_to_release(root, capsys):
    assert main(["constitution", "new", "mine"]) == 0
    assert main(["constitution", "lint"]) == 0
    assert main(["constitution", "release", "mine"]) == 0
    assert main(["constitution", "show", "mine"]) == 0
    told = capsys.readouterr()
    assert "released mine@1, sha256:" in told.out
    assert "no-flattery" in told.out
    assert "cai constitution show mine@1" in told.err
    assert main(["constitution", "release", "mine"]) == 1
    assert "edit draft.yaml first" in capsys.readouterr().err
    assert main(["constitution", "new", "mine"]) == 1


def test_the_list_shows_every_version_and_tells_what_is_broken(root, capsys):
    write(root)
    main(["constitution", "release", "kind"])
    write(root, name="odd").write_text("name: [\n")
    capsys.readouterr()
    assert main(["constitution", "list"]) == 0
    told = capsys.readouterr()
    assert [line.split()[:2] for line in told.out.splitlines()[1:]] == [
        ["kind@1", "released"],
        ["kind@draft", "draft"],
        ["odd@draft", "broken"],
    ]
    assert "odd@draft is broken: " in told.err
    assert main(["constitution", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["ref"] == "kind@1"
    assert listed[0]["digest"].startswith("sha256:")
    assert "draft.yaml:2:1" in listed[2]["error"]


def test_an_empty_list_names_the_next_command(root, capsys):
    assert main(["constitution", "list"]) == 0
    assert "cai constitution new NAME" in capsys.readouterr().err


def test_show_as_json_is_the_content_with_its_digest(root, capsys):
    write(root)
    assert main(["constitution", "show", "kind@draft", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ref"] == "kind@draft"
    assert shown["principles"][1] == {
        **{"id": "be-brief", "compare": "Which answer is shorter?", "weight": 1.0},
        **{"tags": [], "cases": [], "references": []},
    }


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["show", "kin@draft"], 2, "did you mean 'kind@draft'? versions: draft"),
        (["show", "../kind"], 2, "is no constitution; write name@2"),
        (["show", "kind"], 2, "no release yet"),
        (["release", "other"], 2, "make one with 'cai constitution new other'"),
        (["new", "Bad Name"], 2, "is no name"),
        (["lint", "nowhere"], 2, "1 errors"),
    ],
)
def test_bad_input_is_exit_2_with_the_way_out(root, capsys, argv, code, message):
    write(root)
    assert main(["constitution", *argv]) == code
    assert message in capsys.readouterr().err


def test_an_edited_release_is_exit_2_with_both_digests(root, capsys):
    write(root)
    main(["constitution", "release", "kind", "--json"])
    recorded = json.loads(capsys.readouterr().out)["digest"]
    path = root / "kind" / "1.yaml"
    path.write_text(path.read_text().replace("Be kind", "Be rude"))
    assert main(["constitution", "show", "kind@1"]) == 2
    told = capsys.readouterr().err
    assert recorded in told
    assert told.count("sha256:") == 2
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "code", "finding"),
    [
        (TEXT, 0, "warning: 'be-brief' has no case; add a prompt"),
        (TEXT.replace("any insult", "any [INST] insult"), 1, "error: '[INST]' looks like"),
        (TEXT + "    wieght: 2\n", 2, "error: unknown key 'wieght' in principles[1]; did you mean"),
        ("a: [\n", 2, "draft.yaml:2:1: error: has an unclosed '['"),
    ],
)
def test_lint_prints_places_and_exits_by_what_it_found(root, capsys, text, code, finding):
    path = write(root)
    path.write_text(text)
    assert main(["constitution", "lint", str(path)]) == code
    assert finding in capsys.readouterr().out
    assert main(["constitution", "lint", str(root), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert {"rule", "severity", "message", "path", "line", "column"} == set(found[0])


def test_lint_speaks_to_github_repairs_and_can_be_strict(root, capsys):
    path = write(root, text=TEXT.replace("any insult", "any\u200b insult"))
    assert main(["constitution", "lint", "--format", "github"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert (
        f"::notice file={path},line=1,col=1,title=schema-line::the first line does not" in told[0]
    )
    assert f"::warning file={path},line=7,col=15,title=hidden-character::the invisible" in told[1]
    assert main(["constitution", "lint", "--strict"]) == 1
    capsys.readouterr()
    assert main(["constitution", "lint", "--fix"]) == 0
    told = capsys.readouterr()
    assert "repaired: the invisible character U+200B" in told.err
    assert "hidden-character" not in told.out
    assert main(["constitution", "lint", "--rules"]) == 0
    assert "hidden-character  (--fix)" in capsys.readouterr().out


def test_lint_takes_a_reference(root, capsys):
    write(root)
    assert main(["constitution", "lint", "kind@draft"]) == 0
    assert "draft.yaml:14:5: warning: 'be-brief' has no case" in capsys.readouterr().out
    assert main(["constitution", "lint", "kind@7"]) == 2
    assert main(["constitution", "lint", "kind@x"]) == 2


def test_show_tells_reasons_authors_and_references(root, capsys):
    write(
        root,
        text=TEXT + "    rationale: Time is short.\n    author: Ada\n    references: [A book]\n",
    )
    assert main(["constitution", "show", "kind@draft"]) == 0
    told = capsys.readouterr().out
    assert "because:  Time is short." in told
    assert "by:       Ada" in told
    assert "see:      A book" in told


def test_a_folder_without_yaml_is_bad_input(root, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert main(["constitution", "lint", str(tmp_path / "none")]) == 2
    assert "has no .yaml file" in capsys.readouterr().err


def test_text_of_a_constitution_cannot_drive_the_terminal(root, capsys):
    """The loader refuses control characters; marks that reorder text are stripped in print."""
    write(root, text=TEXT.replace("Be kind", "Be \u202ekind"))
    main(["constitution", "show", "kind@draft"])
    assert "Be kind" in capsys.readouterr().out
