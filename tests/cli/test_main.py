"""Exit codes, one-line errors, and nouns that load only when they are used."""

import asyncio
import importlib.util
import sys
import types

import pytest
import typer

from cai import __version__
from cai.cli import main as main_module
from cai.cli.env import describe_environment
from cai.cli.main import NOUNS, Noun, main
from cai.errors import (
    CaiError,
    ConfigError,
    ConflictError,
    EngineDeadError,
    JudgeError,
    MissingDependencyError,
    NotFoundError,
)


@pytest.fixture
def fake_noun(monkeypatch):
    """Puts a command of the test's own under the noun `fake`."""

    def add(command):
        module = types.ModuleType("fake_noun_of_a_test")
        module.command = command
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(NOUNS, "fake", Noun(f"{module.__name__}:command", "A fake."))

    return add


def raising(error):
    def command() -> None:
        raise error

    return command


def test_the_help_lists_every_noun_with_its_line(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, noun in NOUNS.items():
        assert name in printed
        assert noun.help in printed


def test_no_argument_prints_the_help(capsys):
    assert main([]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cai {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bogus"], "cai: no such command 'bogus'; see 'cai --help'"),
        (["constitutio"], "Did you mean 'constitution'"),
        (["--bogus"], "cai: no such option: --bogus"),
        (["constitution"], "cai constitution: missing command; see 'cai constitution --help'"),
        (["constitution", "show"], "cai constitution show: missing argument 'ref'"),
        (["env", "--jsn"], "cai env: no such option: --jsn"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(capsys, argv, message):
    assert main(argv) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("bad flag"), 2),
        (NotFoundError("no such thing"), 2),
        (ConflictError("not now"), 1),
        (EngineDeadError("gone"), 1),
        (JudgeError("no verdict"), 1),
        (MissingDependencyError("this", "that", "vllm"), 1),
        (CaiError("other"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
)
def test_an_error_is_one_line_and_its_code(capsys, fake_noun, error, code):
    fake_noun(raising(error))
    assert main(["fake"]) == code
    told = capsys.readouterr().err
    assert told == f"cai: {error}\n"


def test_a_defect_says_that_it_is_one_and_debug_shows_the_trace(capsys, fake_noun):
    fake_noun(raising(ZeroDivisionError("division by zero")))
    assert main(["fake"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("cai: ZeroDivisionError: division by zero; this is a defect")
    assert "Traceback" not in told
    for argv in (["--debug", "fake"], ["fake", "--debug"]):
        assert main(argv) == 1
        assert "Traceback" in capsys.readouterr().err


def test_after_a_double_dash_debug_is_an_ordinary_word(fake_noun, capsys):
    def command(word: str) -> None:
        typer.echo(word)

    fake_noun(command)
    assert main(["fake", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "--debug\n"


def test_an_interrupt_says_how_to_go_on_and_exits_130(capsys, fake_noun):
    fake_noun(raising(KeyboardInterrupt()))
    assert main(["fake"]) == 130
    assert capsys.readouterr().err == "stopped; run the same command again to go on\n"


def test_the_first_error_of_a_task_group_is_told(capsys, fake_noun):
    async def fail():
        raise ConfigError("inside")

    async def run():
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    fake_noun(lambda: asyncio.run(run()))
    assert main(["fake"]) == 2
    assert capsys.readouterr().err == "cai: inside\n"


def test_control_characters_in_an_error_do_not_reach_the_terminal(capsys, fake_noun):
    fake_noun(raising(ConfigError("bad \x1b[2J value\nsecond \x9b line")))
    main(["fake"])
    assert capsys.readouterr().err == "cai: bad [2J value second  line\n"


def test_a_commands_own_exit_code_is_kept(fake_noun):
    fake_noun(raising(typer.Exit(1)))
    assert main(["fake"]) == 1


def test_a_missing_package_of_a_noun_names_its_extra(capsys, monkeypatch):
    def fail(_):
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi.routing")

    monkeypatch.setattr(main_module, "load_object", fail)
    assert main(["serve"]) == 1
    assert "pip install 'cai-service[server]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", NOUNS)
def test_every_noun_has_its_module_and_prints_its_help(name, capsys):
    module = NOUNS[name].target.partition(":")[0]
    assert importlib.util.find_spec(module) is not None
    assert main([name, "--help"]) == 0
    assert f"Usage: cai {name}" in " ".join(capsys.readouterr().out.split())


def test_env_names_variables_and_never_shows_a_value(capsys, monkeypatch):
    monkeypatch.setenv("CAI_API_KEY_FILE", "sentinel-path")
    monkeypatch.setenv("OPENAI_API_KEY", "sentinel-key")
    monkeypatch.setenv("HF_TOKEN", "sentinel-token")
    for argv in (["env"], ["env", "--json"]):
        assert main(argv) == 0
        printed = capsys.readouterr().out
        assert "CAI_API_KEY_FILE" in printed
        assert "OPENAI_API_KEY" in printed
        assert "sentinel" not in printed


def test_env_knows_the_machine_and_the_versions():
    report = describe_environment()
    assert report["cpus"] >= 1
    assert report["memory_gib"] > 0
    assert report["packages"]["pydantic"]
    assert "3." in report["python"]
