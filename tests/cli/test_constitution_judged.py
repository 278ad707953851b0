"""`cai constitution test`, `impact` and `attribution`, with a scripted judge."""

import json
import xml.etree.ElementTree as ET

import pytest

from cai.cli.main import main
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore
from tests.constitution.helpers import write

KIND = """\
name: kind
version: draft
title: Be kind
principles:
  - id: kind
    critique: Find fault.
    revision: Mend it.
    compare: Which is kind?
    cases:
      - {prompt: 'Am I stupid?', better: 'No, kind.', worse: 'Yes, rude.'}
  - id: warm
    critique: Find coldness.
    revision: Warm it.
    compare: Which is warm?
    cases:
      - {prompt: 'Am I cold?', better: 'No, kind.', worse: 'Yes, rude.'}
"""
JUDGE = r"""
rules:
  - {match: 'reply A\n[^#]*kind', scores: {A: -0.105, B: -2.303}}   # 0.9
  - {match: 'reply A\n[^#]*rude', scores: {A: -2.303, B: -0.105}}
  - {match: 'Find', answer: It is rude.}
  - {match: 'Mend|Warm', answer: A kind answer.}
  - {answer: A rude answer., scores: {A: -0.7, B: -0.7}}
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """kind@1, a draft that asks the other way round, judges in files, and the settings' home."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "constitutions"
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(folder))
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    write(folder, text=KIND)
    release(ConstitutionStore(folder), "kind")
    (tmp_path / "good.yaml").write_text(JUDGE)
    (tmp_path / "bad.yaml").write_text(JUDGE.replace("kind'", "xx'").replace("rude'", "kind'"))
    return folder


def run(*argv):
    return main(["constitution", *map(str, argv)])


def test_a_good_judge_passes_and_the_next_one_is_compared_with_it(root, tmp_path, capsys):
    assert run("test", "kind@1", "--engine", "scripted:good.yaml", "--junit", "j.xml") == 0
    told = capsys.readouterr()
    assert "2 of 2 cases hold by their own principle" in told.out
    assert "2 of 2 cases hold by all (sample)" in told.out
    assert "passed with scripted:good.yaml: 2 cases of 2 principles, at least 1 of each" in told.err
    assert ET.parse(tmp_path / "j.xml").getroot().get("name") == "kind@1"
    assert run("test", "kind@1", "--engine", "scripted:bad.yaml") == 1
    told = capsys.readouterr().out
    assert "FAILED  kind case 1: Am I stupid?" in told
    assert "it held with scripted:good.yaml" in told
    assert run("test", "kind@1", "--engine", "scripted:good.yaml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert run("publish", "kind@1", "--out", "kind.html") == 0
    page = (tmp_path / "kind.html").read_text()
    assert "scripted:good.yaml: held" in page
    assert "scripted:bad.yaml: failed" in page


def test_impact_prints_a_table_writes_a_page_and_json(root, tmp_path, capsys):
    write(root, text=KIND.replace("Which is warm?", "Which is cold?"))
    turned = "  - {match: 'reply A\\n[^#]*kind[^~]*cold', scores: {A: -2.303, B: -0.105}}\n"
    turned += "  - {match: 'reply A\\n[^#]*rude[^~]*cold', scores: {A: -0.105, B: -2.303}}\n"
    (tmp_path / "both.yaml").write_text(JUDGE.replace("rules:\n", "rules:\n" + turned))
    pairs = [{"prompt": f"p{i}", "chosen": f"kind {i}", "rejected": f"rude {i}"} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs))
    argv = ["impact", "kind@1", "kind@draft", "--prompts", "pairs.jsonl"]
    argv += ["--engine", "scripted:both.yaml", "--revise", "2"]
    assert run(*argv, "--html", "i.html") == 0
    told = capsys.readouterr().out
    assert "40 of 40 pairs judged under both" in told
    assert "flips  warm (changed)" in told
    assert "agreement with people, old: 100.0% of 40" in told
    assert "0 of 2 revised answers differ" in told
    assert "Flips by principle" in (tmp_path / "i.html").read_text()
    assert run(*argv, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in shown["principles"]] == ["warm"]
    assert shown["principles"][0]["share"] == 1.0


def test_impact_of_prompts_answers_them_first(root, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    argv = ["impact", "kind@1", "kind@draft", "--engine", "scripted:good.yaml", "--json"]
    assert run(*argv, "--prompts", "prompts.txt") == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 0  # it says the same twice
    assert run(*argv, "--prompts", "none.txt") == 2
    assert run(*argv, "--prompts", "prompts.txt", "--limit", "0") == 2
    assert "--limit is 0" in capsys.readouterr().err


def test_attribution_of_stored_votes_and_asked_anew(root, tmp_path, capsys):
    read = {"order_ab": {"A": -0.1, "B": -2.4}, "order_ba": {"A": -2.4, "B": -0.1}}
    label = {**read, "principles": ["kind"], "mass": [1, 1], "position_bias": 0.0}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"p_chosen": 0.9, "label": label}) + "\n")
    assert run("attribution", "rows.jsonl", "-c", "kind@1") == 0
    told = capsys.readouterr().out
    assert "1 labels, 1 of them decisive" in told
    assert "never matters" in next(line for line in told.splitlines() if line.startswith("warm"))
    pairs = [{"prompt": "p", "chosen": f"kind {i}", "rejected": f"rude {i}"} for i in range(5)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs))
    argv = ["attribution", "pairs.jsonl", "--engine", "scripted:good.yaml", "--json"]
    assert run(*argv, "-c", "kind@1") == 0
    assert json.loads(capsys.readouterr().out)["decisive"] == 5
    assert run(*argv) == 2
    assert "name it with -c" in capsys.readouterr().err
    assert run("attribution", "pairs.jsonl") == 2
    assert "has no row with a label" in capsys.readouterr().err


def test_an_unknown_tag_is_bad_input(root, capsys):
    assert run("test", "kind@1", "--engine", "scripted:good.yaml", "--tag", "none") == 2
    assert "has no case tagged none" in capsys.readouterr().err
