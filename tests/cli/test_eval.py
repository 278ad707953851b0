"""`cai eval policy`, `bench`, `list` and `show`, with scripted engines and a harness in a file."""

import asyncio
import json
import sys

import pytest

from cai.cli.main import main
from tests.evaluate.suites import write_suite
from tests.server.helpers import make_app, served

ENGINE = """\
rules:
  - {match: How, answer: Sure.}
  - {answer: I can't help with that.}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Two scripted policies and a suite in the working folder; results go below `home`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    (tmp_path / "a.yaml").write_text(ENGINE)
    (tmp_path / "b.yaml").write_text(ENGINE.replace("How", "Nothing"))
    write_suite(tmp_path)
    return tmp_path / "home"


def run(*argv):
    return main(["eval", *map(str, argv)])


def test_policies_are_measured_compared_kept_and_shown(home, capsys):
    argv = ["policy", "scripted:a.yaml", "scripted:b.yaml", "--suite", "./mine.yaml"]
    assert run(*argv, "--out", "first") == 0
    told = capsys.readouterr()
    assert "mine  harmful, 2 prompts" in told.out
    assert "50.0%" in told.out
    assert "(1 prompts worse, 0 better, of 2)" in told.out
    assert "scripted:a.yaml 001 (refuses): Sure." in told.out
    assert (home / "evals" / "first" / "answers.jsonl").exists()
    assert run("list") == 0
    assert "first" in capsys.readouterr().out
    assert run("show", "first", "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == "first"
    assert run("show", "first") == 0
    assert "suite   mine (heldout)" in capsys.readouterr().out


def test_the_same_command_again_asks_nothing(home, capsys):
    argv = ["policy", "scripted:a.yaml", "--suite", "./mine.yaml", "--out", "first", "--json"]
    assert run(*argv) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(*argv) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == first
    assert "nothing is asked again" in told.err
    assert run(*argv, "--samples", "2") == 1
    assert "is there already" in capsys.readouterr().err


HARNESS = """\
#!{python}
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1])
told = {{"results": {{"mmlu": {{"acc,none": {acc}}}}}}}
told["n-samples"] = {{"mmlu": {{"effective": 20}}}}
(out / "results_1.json").write_text(json.dumps(told))
"""


async def test_a_benchmark_is_kept_and_set_beside_that_of_another(home, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the command runs in a thread here
    argv = ["bench", "mmlu", "--tokenizer", "x", "--lm-eval", "./harness"]
    harness = home.parent / "harness"
    async with served(make_app(home.parent)) as (url, _):
        for name, acc, more in (("old", 0.5, ()), ("new", 0.4, ("--compare", "old"))):
            harness.write_text(HARNESS.format(python=sys.executable, acc=acc))
            harness.chmod(0o755)
            argv_ = [*argv, "--url", url, "--out", name, *more]
            assert await asyncio.to_thread(run, *argv_) == 0
        assert await asyncio.to_thread(run, *argv, "--url", url, "--policy", "none") == 2
    told = capsys.readouterr()
    assert "less live" in told.out
    assert "-0.1000" in told.out
    assert "the server serves no policy 'none'; there are: live" in told.err
    assert run("show", "new", "--json") == 0
    kept = json.loads(capsys.readouterr().out)
    assert kept["figures"]["compared"]["result"] == "old"
    assert kept["policies"][0]["model"] == "scripted"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["policy", "none", "--suite", "./mine.yaml"], "no policy 'none'"),
        (["policy", "scripted:a.yaml", "--suite", "mien"], "no suite 'mien'"),
        (["policy", "scripted:none.yaml", "--suite", "./mine.yaml"], "policy 'scripted:none.yaml'"),
        (["policy", "scripted:a.yaml", "--samples", "0"], "--samples is 0; give 1 to 64"),
        (["policy", "scripted:a.yaml", "--suite", "honesty"], "--judge ADDR"),
        (["policy", "scripted:a.yaml", "--out", "../x"], "no id of a result"),
        (["bench", "mmlu"], "name the running server with --url"),
        (["bench", "mmlu", "--url", "http://127.0.0.1:1", "--lm-eval", "/none"], "no program"),
        (["bench", "mmlu", "--url", "http://x:1", "--include-path", "none"], "no folder at none"),
        (["show", "none"], "no result 'none'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(home, capsys, argv, said):
    assert run(*argv) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
