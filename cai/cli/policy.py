"""`cai policy`: what is registered, what became of it, and which policy is live."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cai.cli.output import print_json, print_table, print_text, say
from cai.cli.policy_show import details, lines
from cai.cli.policy_verify import Verdict, check
from cai.cli.server_client import KEY_VARIABLE, ServerClient
from cai.db import open_database
from cai.evaluate.results import results_of
from cai.policy.records import STATES, PolicyRecord, State, parse_state
from cai.policy.registry import PolicyRegistry
from cai.policy.resolve import resolve_policy
from cai.settings import Settings, load_settings

app = typer.Typer(
    name="policy",
    help="Policies: registered, verified, promoted, and gone back from.",
    add_completion=False,
    no_args_is_help=True,
)

Ref = Annotated[str, typer.Argument(help="A policy's id, digits of its digest, or live.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str | None, typer.Option(help="The running server that is to do it; else CAI_URL's.")
]
KeyEnv = Annotated[
    str, typer.Option("--api-key-env", help="Variable that holds a key with the scope admin.")
]
Reason = Annotated[str, typer.Option(help="Why; kept with the event.")]


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help=f"One of {', '.join(STATES)}.")] = None,
    as_json: Json = False,
) -> None:
    """List the registered policies, newest first."""
    with _registry() as registry:
        records = list(_all(registry, parse_state(state)))
    if as_json:
        print_json([record.model_dump() for record in records])
        return
    print_table(
        ("id", "state", "kind", "method", "digest", "parent", "since"),
        [
            (one.id, one.state, one.kind, one.method, one.digest[7:19], one.parent, one.updated_at)
            for one in records
        ],
    )
    if not records:
        say("no policy is registered; train one, then: cai policy add NAME")


@app.command()
def show(ref: Ref, as_json: Json = False) -> None:
    """Show a policy: what became of it, its results, its data, constitutions and parents."""
    settings = load_settings()
    with _registry(settings) as registry:
        record = registry.get(ref)
        events, lineage = registry.events(record.id), registry.lineage(record.id)
    results = results_of(settings.home, record.digest)
    if as_json:
        print_json(details(record, events, lineage, results))
    else:
        print_text("\n".join(lines(record, events, lineage, results)))


@app.command()
def add(
    path: Annotated[str, typer.Argument(help="A policy's folder, or its name under policies/.")],
    again: Annotated[
        bool, typer.Option("--again", help="Take a rejected one as a candidate once more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a sealed policy folder as a candidate, every byte of it checked."""
    settings = load_settings()
    folder = resolve_policy(path, settings.home)
    with _registry(settings) as registry:
        record = registry.add(folder, actor=acting(), again=again)
        events = registry.events(record.id)
    if as_json:
        print_json(record.model_dump())
        return
    print_text(f"{record.id}: {record.state}, {record.digest}")
    if record.state == "rejected":
        say(f"it was rejected: {events[-1].reason}; --again makes it a candidate")
    elif record.state == "candidate":
        say(f"next: cai policy verify {record.id}, or cai policy promote {record.id} --url SERVER")


@app.command()
def verify(
    ref: Ref,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Start no engine; the state stays what it is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every file, and that an engine of its own answers as the trainer's model did.

    A candidate that passes is verified; one that does not is rejected, with the evidence.
    """
    with _registry() as registry:
        record = registry.get(ref)
        verdict = check(registry, record, actor=acting(), files_only=files_only)
    _print_verdict(verdict, as_json=as_json)


@app.command()
def promote(
    ref: Ref,
    url: Url = None,
    api_key_env: KeyEnv = KEY_VARIABLE,
    reason: Reason = "promoted",
    as_json: Json = False,
) -> None:
    """Make a policy the live one: on a running server, verified there; else in the registry."""
    settings = load_settings({"url": url})
    told = promote_policy(settings, ref, reason, key_variable=api_key_env)
    _print_live(told, settings.url, as_json=as_json)


@app.command()
def rollback(
    url: Url = None,
    api_key_env: KeyEnv = KEY_VARIABLE,
    reason: Reason = "rolled back",
    as_json: Json = False,
) -> None:
    """Go back to the policy that was live before: on a running server, else in the registry."""
    settings = load_settings({"url": url})
    told = rollback_policy(settings, reason, key_variable=api_key_env)
    _print_live(told, settings.url, as_json=as_json)


def promote_policy(
    settings: Settings,
    ref: str,
    reason: str,
    *,
    key_variable: str = KEY_VARIABLE,
    figures: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What became of it: the server's answer, or the record and who was live before.

    `figures` are kept with the event where no server does it.
    """
    if settings.url is not None:
        path = f"/v1/policies/{quote(ref, safe='')}/promote"
        return _ask(settings.url, path, {"reason": reason}, key_variable)
    with _registry(settings) as registry:
        id = registry.get(ref).id
        previous = registry.make_live(id, reason, dict(figures or {}), acting())
        return _changed(registry.get(id), previous)


def rollback_policy(
    settings: Settings,
    reason: str,
    *,
    key_variable: str = KEY_VARIABLE,
    figures: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The same for going back to the policy that was live before."""
    if settings.url is not None:
        return _ask(settings.url, "/v1/policies/rollback", {"reason": reason}, key_variable)
    with _registry(settings) as registry:
        target = registry.rollback_target().id
        found = dict(figures or {})
        previous = registry.make_live(target, reason, found, acting(), is_rollback=True)
        return _changed(registry.get(target), previous)


@contextmanager
def _registry(settings: Settings | None = None) -> Iterator[PolicyRegistry]:
    settings = settings or load_settings()
    with open_database(settings) as database:
        yield PolicyRegistry(database, settings.home, roots=settings.policy_roots)


def _all(registry: PolicyRegistry, state: State | None) -> Iterator[PolicyRecord]:
    after: str | None = None
    while True:
        page = registry.list(state, after=after, limit=500)
        yield from page.records
        if not page.has_more:
            return
        after = page.records[-1].id


def _ask(url: str, path: str, body: dict[str, Any], key_variable: str) -> dict[str, Any]:
    with ServerClient(url, key_variable=key_variable) as server:
        answer: dict[str, Any] = server.post(path, body)
        return answer


def _changed(record: PolicyRecord, previous: PolicyRecord | None) -> dict[str, Any]:
    before = None if previous is None else previous.id
    return {**record.model_dump(), "previous": before, "is_server_told": False}


def _print_live(told: dict[str, Any], url: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    elif url is not None:
        print_text(f"{told.get('id', 'a policy')} is live on {url.rstrip('/').removesuffix('/v1')}")
    else:
        before = told["previous"]
        print_text(
            f"{told['id']} is live in the registry" + (f", after {before}" if before else "")
        )
    if url is None:
        say("a running server was not told; with --url or CAI_URL it loads the policy itself")


def _print_verdict(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        print_json(verdict._asdict())
    else:
        print_text(f"{verdict.id}: {verdict.state}; {verdict.told}")
    if verdict.failure is not None:
        raise verdict.failure


def acting() -> str:
    """Who a change made here is put down to."""
    try:
        return f"cli:{getpass.getuser()}"[:128]
    except (KeyError, OSError):
        return "cli"  # a container may run without a name for its user
