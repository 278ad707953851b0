"""The console script `cai`: finds the noun, runs it, and turns errors into one line and a code.

A noun's module is imported when the noun is used, so `cai --help` loads nothing heavy.
Start from `main`. Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 130 stopped.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from cai import __version__
from cai.cli.output import say
from cai.errors import CaiError, InputError, MissingDependencyError, NotFoundError
from cai.registry import load_object


class Noun(NamedTuple):
    """Where a noun's typer app (or single command) is, its help, and the extra that it needs."""

    target: str
    help: str
    extra: str = "server"


NOUNS = {
    "serve": Noun("cai.cli.serve:command", "Serve the model and its critique loop over HTTP."),
    "chat": Noun(
        "cai.cli.chat:command", "Ask one thing; see draft, critique and revision.", "vllm"
    ),
    "constitution": Noun("cai.cli.constitution:app", "Write, lint, test, compare, release them."),
    "data": Noun(
        "cai.cli.data:app", "Make preference datasets; import, merge, export them.", "vllm"
    ),
    "train": Noun("cai.cli.train:app", "Train policies: SFT, reward model, DPO, PPO.", "train"),
    "policy": Noun("cai.cli.policy:app", "Register, verify, promote, roll back.", "database"),
    "eval": Noun("cai.cli.eval:app", "Evaluate policies and judges; report.", "vllm"),
    "review": Noun("cai.cli.review:app", "Let people judge answers, blindly.", "database"),
    "jobs": Noun("cai.cli.jobs:app", "Submit, watch and cancel jobs of workers.", "jobs"),
    "worker": Noun("cai.cli.worker:command", "Run queued jobs.", "jobs"),
    "loop": Noun("cai.cli.loop:command", "Make data, train, gate, promote; round after round."),
    "sandbox": Noun("cai.cli.sandbox:app", "Prompts and oracle of the bundled world.", "train"),
    "demo": Noun("cai.cli.demo:command", "Run the whole loop on the bundled model, and report."),
    "env": Noun("cai.cli.env:command", "Print what a bug report needs."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are told on stderr.

    `--debug`, anywhere before a `--`, shows the trace of an error.
    """
    args, debug = _take_debug(sys.argv[1:] if argv is None else argv)
    try:
        code = command_tree().main(args or ["--help"], prog_name="cai", standalone_mode=False)
    except typer.TyperException as exc:
        return _tell_usage(exc)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BaseExceptionGroup as group:
        return _tell(_first(group), debug=debug)
    except Exception as exc:
        return _tell(exc, debug=debug)
    if code == 130:
        say("stopped; run the same command again to go on")
    return code if isinstance(code, int) else 0


def command_tree() -> TyperGroup:
    """The root command with every noun of `NOUNS`, none of them loaded."""
    root = typer.main.get_command(_root)
    assert isinstance(root, TyperGroup), "a typer app with a callback is a group"
    for name, noun in NOUNS.items():
        root.add_command(_LazyCommand(name=name, help=noun.help), name)
    return root


_root = typer.Typer(
    name="cai",
    epilog="Every command takes --debug, which shows the trace of an error.",
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"cai {__version__}")
        raise typer.Exit


@_root.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Constitutional AI: answers critiqued and revised against written principles."""


class _LazyCommand(TyperCommand):
    """Stands for a noun in the help; becomes the noun's own command when it is invoked."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        assert self.name is not None, "a noun has a name"
        return _load(self.name).make_context(info_name, args, parent=parent, **extra)


def _load(name: str) -> Any:
    noun = NOUNS[name]
    try:
        found = load_object(noun.target)
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package in ("cai", "server"):
            raise
        raise MissingDependencyError(f"cai {name}", package, noun.extra) from exc
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name=name)(found)
        found = single
    return typer.main.get_command(found)


def _take_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    end = list(argv).index("--") if "--" in argv else len(argv)
    options = [arg for arg in argv[:end] if arg != "--debug"]
    return [*options, *argv[end:]], len(options) != end


def _tell_usage(exc: typer.TyperException) -> int:
    context = getattr(exc, "ctx", None)
    command = context.command_path if context is not None else "cai"
    message = " ".join(exc.format_message().split())
    say(f"{command}: {message[:1].lower()}{message[1:].rstrip('.')}; see '{command} --help'")
    return exc.exit_code


def _tell(exc: BaseException, *, debug: bool) -> int:
    """Say what went wrong in one line and return the exit code."""
    if debug:
        say("".join(traceback.format_exception(exc)).rstrip())
    if isinstance(exc, CaiError):
        say("cai: " + " ".join(exc.message.splitlines()))
        return 2 if isinstance(exc, InputError | NotFoundError) else 1
    if isinstance(exc, OSError):
        say(f"cai: {exc}")
        return 1
    hint = "" if debug else "; this is a defect, run again with --debug for its trace"
    say(f"cai: {type(exc).__name__}: {exc}{hint}")
    return 1


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error inside: tasks that run together fail as a group."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    sys.exit(main())
