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
    (home.parent / "a.yaml").write_text(ENGINE.replace("Sure", "Of course"))
    assert run(*argv) == 1
    assert "'first' was measured when 'scripted:a.yaml' was sha256:" in capsys.readouterr().err


def test_a_policy_that_says_nothing_is_shown_as_one(home, capsys):
    (home.parent / "mute.yaml").write_text("rules: [{answer: ' '}]\n")
    argv = ["policy", "scripted:mute.yaml", "--suite", "./mine.yaml", "--out", "mute"]
    assert run(*argv) == 0
    shown = capsys.readouterr().out
    assert "2 empty" in shown
    assert "0.0%" not in shown
    page = home.parent / "report.html"
    assert run("report", "mute", "--out", page) == 0
    assert "<strong>no rate</strong>, 2 not measured (empty), 2 empty" in page.read_text()


HARNESS = """\
#!{python}
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1])
args = json.loads(sys.argv[sys.argv.index("--model_args") + 1])
assert args["model"] == "scripted", "it is asked for by its own name"
told = {{"results": {{"mmlu": {{"acc,none": {acc}}}}}, "versions": {{"mmlu": {version}}}}}
told["n-samples"] = {{"mmlu": {{"effective": 20}}}}
(out / "results_1.json").write_text(json.dumps(told))
"""


def write_harness(path, acc, version=1):
    path.write_text(HARNESS.format(python=sys.executable, acc=acc, version=version))
    path.chmod(0o755)


async def test_a_benchmark_is_kept_and_set_beside_that_of_another(home, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the command runs in a thread here
    argv = ["bench", "mmlu", "--tokenizer", "x", "--lm-eval", "./harness"]
    harness = home.parent / "harness"
    async with served(make_app(home.parent)) as (url, _):
        for name, acc, more in (("old", 0.5, ()), ("new", 0.4, ("--compare", "old"))):
            write_harness(harness, acc)
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
    assert (kept["settings"]["versions"], kept["settings"]["include_path"]) == ({"mmlu": 1}, None)


async def test_what_the_harness_could_not_measure_is_named_and_the_rest_is_kept(
    home, capsys, monkeypatch
):
    """NaN alone is no result; NaN beside a figure is one that says so; both end with code 2."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    argv = ["bench", "mmlu", "--tokenizer", "x", "--lm-eval", "./harness"]
    harness = home.parent / "harness"
    evals = home / "evals"
    async with served(make_app(home.parent)) as (url, _):
        argv += ["--url", url, "--out"]
        write_harness(harness, 'float("nan")')
        assert await asyncio.to_thread(run, *argv, "none") == 2
        assert "acc,none of mmlu is nan" in capsys.readouterr().err
        assert json.loads((evals / "none" / "harness.jsonl").read_text())["results"] == {
            "mmlu": {"acc,none": None}
        }
        assert not (evals / "none" / "result.json").exists()
        write_harness(harness, '0.5, "perplexity,none": float("inf")')
        assert await asyncio.to_thread(run, *argv, "some") == 2
        assert "perplexity,none of mmlu is inf" in capsys.readouterr().err
        assert await asyncio.to_thread(run, "show", "some", "--json") == 0
        figures = json.loads(capsys.readouterr().out)["figures"]
        assert figures["tasks"]["mmlu"]["acc,none"]["rate"] == 0.5
        assert figures["not_finite"] == {"mmlu": {"perplexity,none": "inf"}}
        write_harness(harness, '"text"')
        assert await asyncio.to_thread(run, *argv, "text") == 2
        assert "no metric that is a number" in capsys.readouterr().err


async def test_a_task_of_another_version_is_measured_and_not_compared(home, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    argv = ["bench", "mmlu", "--tokenizer", "x", "--lm-eval", "./harness"]
    async with served(make_app(home.parent)) as (url, _):
        for name, version, code in (("old", 1, 0), ("new", 2, 2)):
            write_harness(home.parent / "harness", 0.5, version)
            more = ["--compare", "old"] if name == "new" else []
            argv_ = [*argv, "--url", url, "--out", name, *more]
            assert await asyncio.to_thread(run, *argv_) == code
    assert "'old' has another version of a task" in capsys.readouterr().err
    kept = json.loads((home / "evals" / "new" / "result.json").read_text())
    assert set(kept["figures"]) == {"tasks", "harness"}


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
