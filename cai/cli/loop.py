"""`cai loop`: dataset, training, gate and reload on a running server, again and again.

Stops and goes on at any moment; the work itself is the server's and its workers'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cai.cli.generate_config import assign, settings_error
from cai.cli.loop_show import loop_json, print_round
from cai.cli.output import Bar, print_json, progress, say
from cai.cli.server_client import KEY_VARIABLE, ServerClient
from cai.cli.stoppable import stopping_on_sigterm
from cai.dataset.prompts import survey_prompts
from cai.errors import CaiError, ConfigError
from cai.files import replace_text
from cai.loop.calls import LoopServer, SeenJob
from cai.loop.config import LoopConfig
from cai.loop.rounds import Loop
from cai.loop.state import CONFIG, LoopNotes, Notebook
from cai.settings import load_settings
from cai.yamlguard import config_error, dump_yaml, load_yaml_file, validate

_FILLED_IN = {"prompts": "-", "constitutions": ["x"], "rounds": 1}  # flags may give these


def command(
    prompts: Annotated[Path | None, typer.Option(help="File of prompts, as data generate.")] = None,
    constitution: Annotated[
        list[str] | None,
        typer.Option("-c", "--constitution", help="name@2 or name; repeat it for several."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="How many rounds in all.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy to begin from; else what is live.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The server; else CAI_URL's, or here.")] = None,
    api_key_env: Annotated[
        str,
        typer.Option("--api-key-env", help="Variable that holds a key: infer, train and admin."),
    ] = KEY_VARIABLE,
    config: Annotated[Path | None, typer.Option(help="YAML file of these settings.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, key=value; repeatable.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start the loop over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Improve the policy that a server runs, round after round, while it serves.

    Each round: a dataset of every constitution by the live policy, training on it, the evaluation
    gate, and the reload of what passes. The same command goes on where it stopped.
    """
    flags = {
        "prompts": prompts,
        "constitutions": tuple(constitution) if constitution else None,
        "rounds": rounds,
        "policy": policy,
    }
    resolved = resolve_loop(flags, file=config, sets=set_ or ())
    settings = load_settings({"url": url})
    address = settings.url or f"http://{settings.host}:{settings.port}"
    settled = resolved.settled(survey_prompts(resolved.prompts))
    with (
        stopping_on_sigterm(),
        ServerClient(address, key_variable=api_key_env) as client,
        Notebook(settings.home, settled) as notebook,
    ):
        notes = notebook.open(client.url, fresh=fresh)
        replace_text(notebook.folder / CONFIG, _as_yaml(resolved))
        try:
            _run(resolved, _server(client, resolved), notebook, notes, as_json=as_json)
        finally:
            if as_json and notes.rounds:
                print_json(loop_json(notes, notebook.folder))


def resolve_loop(
    flags: Mapping[str, Any], *, file: Path | None = None, sets: Sequence[str] = ()
) -> LoopConfig:
    """The settings of a loop: flag over --set over file over default.

    Raises ConfigError naming the flag, key or line that is wrong.
    """
    values = _from_file(file) if file is not None else {}
    for assignment in sets:
        assign(values, assignment)
    values |= {name: value for name, value in flags.items() if value is not None}
    given_by = {"prompts": "--prompts F", "constitutions": "-c REF", "rounds": "--rounds N"}
    for name, flag in given_by.items():
        if name not in values:
            raise ConfigError(f"'{name}' is missing; give {flag}", param=name)
    try:
        return LoopConfig.model_validate(values)
    except ValidationError as exc:
        details = exc.errors(include_url=False)[0]
        if details["type"] == "value_error":
            raise ConfigError(str(details["ctx"]["error"])) from None
        raise settings_error(exc, LoopConfig) from None


def _from_file(path: Path) -> dict[str, Any]:
    loaded = load_yaml_file(path, error=config_error)
    if not isinstance(loaded.data, dict):
        raise loaded.fail("expected settings, as in 'method: dpo'")
    validate(LoopConfig, replace(loaded, data={**_FILLED_IN, **loaded.data}))
    return dict(loaded.data)


def _as_yaml(config: LoopConfig) -> str:
    return dump_yaml(config.model_dump(mode="json", exclude_none=True))


def _server(client: ServerClient, config: LoopConfig) -> LoopServer:
    return LoopServer(
        client,
        patience_s=config.patience_s,
        worker_timeout_s=config.worker_timeout_s,
        on_away=lambda message: say(f"waiting: {message}"),
    )


def _run(
    config: LoopConfig,
    server: LoopServer,
    notebook: Notebook,
    notes: LoopNotes,
    *,
    as_json: bool,
) -> None:
    """Every round, told as it ends."""
    num_before = sum(one.outcome is not None for one in notes.rounds)
    if num_before:
        say(f"{num_before} rounds are done already ({notebook.folder}); --fresh starts over")
    try:
        for now in Loop(config, server, notebook, notes, watching=_watching).run():
            if not as_json:
                print_round(now, config.limits if config.gate else {})
            if now.outcome == "rejected" and config.on_rejected == "stop":
                raise CaiError(
                    f"round {now.number}: '{now.policy}' was rejected: {'; '.join(now.reasons)}. "
                    "The policy from before is live; --set on_rejected=continue tries another round"
                )
    except KeyboardInterrupt:
        say("what the server and its workers have begun goes on there")
        raise


@contextmanager
def _watching(what: str) -> Iterator[Callable[[SeenJob], None]]:
    with ExitStack() as stack:
        yield _Shown(what, stack)


class _Shown:
    """A job's progress on stderr: what it is at first, then a bar while it counts something."""

    def __init__(self, what: str, stack: ExitStack) -> None:
        self._what = what
        self._stack = stack
        self._bar: Bar | None = None
        self._id = ""
        self._done = 0

    def __call__(self, seen: SeenJob) -> None:
        now = seen.progress
        if seen.id != self._id:
            self._id = seen.id
            say(f"{self._what}: {seen.id}")
        if now.done is None:
            return
        if self._bar is None or now.done < self._done:  # another stage counts anew
            self._stack.close()
            self._bar, self._done = self._stack.enter_context(progress(self._what, now.total)), 0
        self._bar.advance(now.done - self._done, note=now.note)
        self._done = now.done
