"""`cai jobs`: submit jobs, list them, look at one, read its log, cancel it.

Works on the database of the settings, with or without a server that runs.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from cai.cli.output import clean, print_json, print_table, print_text, say
from cai.db import open_database
from cai.errors import ConfigError
from cai.jobs.jobs import Jobs
from cai.jobs.logs import log_path, read_log
from cai.jobs.spec import JobRecord, State
from cai.registry import choices
from cai.settings import load_settings
from cai.yamlguard import config_error, load_yaml, load_yaml_file

app = typer.Typer(
    name="jobs",
    help="Datasets, trainings and evaluations that workers run; start one with 'cai worker'.",
    add_completion=False,
    no_args_is_help=True,
)

_LOOK_EVERY_S = 0.5
_STATES: tuple[State, ...] = get_args(State)

Id = Annotated[str, typer.Argument(help="A job's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def submit(
    file: Annotated[
        Path | None, typer.Argument(help="YAML file of a job: kind, params, priority.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="dataset, train, gate, feedback, …")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One of the params, key=value; repeatable.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 100; higher starts first.")] = None,
    auto_promote: Annotated[
        bool, typer.Option("--auto-promote", help="Promote what passes the evaluation.")
    ] = False,
    upload: Annotated[
        Path | None, typer.Option(help="A file of prompts, uploaded as params.prompts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Queue a job, from a file, from flags, or both; flags count."""
    raw = _from_file(file)
    given = {"kind": kind, "priority": priority, "auto_promote": auto_promote or None}
    raw |= {name: value for name, value in given.items() if value is not None}
    if "kind" not in raw:
        raise ConfigError("which kind of job? give a FILE, or --kind", param="kind")
    params = dict(raw.get("params") or {})
    for assignment in set_ or ():
        key, value = _assignment(assignment)
        params[key] = value
    with _jobs() as jobs:
        if upload is not None:
            params["prompts"] = _upload(jobs, upload)
        record = jobs.submit({**raw, "params": params}, actor=_actor())
    _print(record, as_json=as_json)
    say(f"next: cai jobs logs {record.id} -f")


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help=f"One of {', '.join(_STATES)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    if state is not None and state not in _STATES:
        raise ConfigError(f"no state '{state}'{choices(state, _STATES)}", param="state")
    with _jobs() as jobs:
        found = jobs.store.page(state=state, limit=limit)
    if as_json:
        print_json([record.model_dump(mode="json") for record in found])
        return
    print_table(
        ("id", "state", "progress", "attempts", "submitted", "by", "error"),
        [
            (r.id, _state(r), _progress(r), r.attempts, r.created_at[:19], r.actor, r.error)
            for r in found
        ],
    )


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show a job, and what happened to it."""
    with _jobs() as jobs:
        record = jobs.store.get(id)
        events = jobs.store.events(id)
    if as_json:
        told = [event.model_dump(mode="json") for event in events]
        print_json({**record.model_dump(mode="json"), "events": told})
        return
    _print(record, as_json=False)
    for event in events:
        if event.type != "progress":
            told_data = "  ".join(f"{key}={value}" for key, value in event.data.items())
            print_text(f"  {event.at[:19]}  {event.type}  {told_data}"[:2000])


@app.command()
def logs(
    id: Id,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until the job is over.")] = False,
) -> None:
    """Print what a job's command said."""
    settings = load_settings()
    with _jobs() as jobs:
        jobs.store.get(id)
        num_printed = 0
        while True:
            is_over = jobs.store.get(id).is_over  # before the reading, so that nothing is missed
            lines = list(read_log(log_path(settings.home, id)))
            for line in lines[num_printed:]:
                print_text(line)
            num_printed = len(lines)
            if not follow or is_over:
                return
            time.sleep(_LOOK_EVERY_S)


@app.command()
def cancel(id: Id, as_json: AsJson = False) -> None:
    """Cancel a job; of a running one every process is stopped."""
    with _jobs() as jobs:
        record = jobs.store.cancel(id, actor=_actor())
    _print(record, as_json=as_json)


@contextmanager
def _jobs() -> Iterator[Jobs]:
    settings = load_settings()
    with open_database(settings) as database, Jobs(settings, database) as jobs:
        yield jobs


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    loaded = load_yaml_file(file, error=config_error)
    if not isinstance(loaded.data, dict):
        raise loaded.fail("expected a job, as in 'kind: dataset'")
    return dict(loaded.data)


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: write key=value", param="set")
    return key.strip(), load_yaml(value, path=f"--set {key}", error=config_error).data


def _upload(jobs: Jobs, path: Path) -> str:
    with (
        jobs.place.files.begin(path.name, purpose="prompts", actor=_actor()) as upload,
        path.open("rb") as file,
    ):
        while piece := file.read(1 << 20):
            upload.write(piece)
        return upload.finish().id


def _actor() -> str:
    try:
        return f"local:{getpass.getuser()}"[:64]
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "local"


def _print(record: JobRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    print_text(f"{record.id}: {_state(record)}  {_progress(record)}".rstrip())
    if record.error is not None:
        print_text(f"  {record.error}")
    for name, value in (record.result or {}).items():
        print_text(f"  {name}: {value}")


def _state(record: JobRecord) -> str:
    return "cancelling" if record.is_cancelling else record.state


def _progress(record: JobRecord) -> str:
    now = record.progress
    if now.done is None:
        return now.stage if record.state == "running" else ""
    total = "" if now.total is None else f"/{now.total:,}"
    return clean(f"{now.stage} {now.done:,}{total}")
