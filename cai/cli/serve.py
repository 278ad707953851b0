"""`cai serve`: the HTTP service on one engine, from the first listening socket to the last answer.

The port is taken before the engine loads, so that a taken one is told at once; SIGTERM and Ctrl-C
let the requests at work finish. The only module that imports `server`.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn

from cai.cli.output import print_json, print_text, say
from cai.constitution.live import LiveStore
from cai.engine.base import Engine
from cai.engine.open import open_engine, parse_engine_argument
from cai.errors import ConfigError, MissingDependencyError
from cai.policy.resolve import resolve_policy
from cai.registry import choices, load_object
from cai.settings import Settings, load_settings
from server import logs
from server.app import Engines, Opening, create_app
from server.auth import SCOPES, Scope, add_key
from server.deps import RewardModel, Services
from server.worker_child import WorkerChild

_BACKLOG = 2048


def command(
    engine: Annotated[str | None, typer.Option(help="Engine that answers: sandbox, …")] = None,
    judge: Annotated[str | None, typer.Option(help="Engine that scores labels.")] = None,
    reward: Annotated[
        str | None, typer.Option(metavar="PATH", help="Reward model behind /v1/rewards.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="YAML file of keys.")] = None,
    worker: Annotated[
        bool | None, typer.Option("--worker/--no-worker", help="Run jobs beside the server.")
    ] = None,
    engine_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Argument of the engine; may be repeated."),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make a key, print it once, and end."),
    ] = None,
    scopes: Annotated[
        str, typer.Option(help="Scopes of the new key: infer,review,train,admin.")
    ] = "infer",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Serve the model and its critique loop over HTTP."""
    settings = load_settings(
        {
            "engine": engine,
            "judge": judge,
            "reward": reward,
            "host": host,
            "port": port,
            "api_key_file": api_key_file,
            "worker": worker,
        }
    )
    if new_key is not None:
        _make_key(settings, new_key, scopes, as_json=as_json)
        return
    serve(settings, engine_options=parse_engine_args(engine_arg or ()), as_json=as_json)


def serve(settings: Settings, *, engine_options: dict[str, Any], as_json: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Raises what kept the engine from opening."""
    if not settings.is_loopback and settings.api_key_file is None:
        raise ConfigError(
            f"{settings.host} can be reached from other machines, so keys are needed: "
            "add --api-key-file (make one with --new-key NAME), or bind 127.0.0.1"
        )
    opened = _Opened(settings, engine_options)
    worker = _worker(settings)
    app = create_app(
        None,
        LiveStore(settings.constitutions),
        settings,
        opening=opened.opening(),
        worker=worker,
    )
    listener = listen(settings.host, settings.port)
    logs.set_up()
    url = _url(listener)
    if as_json:
        print_json({"url": url, "engine": settings.engine})
    else:
        print_text(url)
    sys.stdout.flush()  # a script waits for this line
    say(f"listening on {url}; loading {settings.engine}")
    opened.url = url
    if worker is not None:
        worker.url = url
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
    )
    opened.server = _Server(config, app.state.services)
    opened.server.run(sockets=[listener])
    if opened.failure is not None:
        raise opened.failure
    say("stopped")


def _worker(settings: Settings) -> WorkerChild | None:
    """The server's own worker, where it is wanted and what it needs is installed."""
    if not settings.worker:
        return None
    if importlib.util.find_spec("dbos") is None:
        say("no worker is started: jobs need the extra 'jobs'; --no-worker says that it is meant")
        return None
    return WorkerChild(settings)


def parse_engine_args(pairs: Sequence[str]) -> dict[str, Any]:
    """Options by name from `name=value`, each given once."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, value = parse_engine_argument(pair)
        if name in options:
            raise ConfigError(f"--engine-arg {name} is given twice; give it once", param=name)
        options[name] = value
    return options


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError naming the port when it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is taken; choose another with --port, or 0 for a free one",
                param="port",
            ) from exc
        raise ConfigError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc


class _Server(uvicorn.Server):
    """Ends with its own exit code after a signal, where uvicorn would die of the signal."""

    def __init__(self, config: uvicorn.Config, service: Services) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; streams that only watch are not waited for."""
        self._service.is_stopping = True
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Opened:
    """Opens the engines inside the server's life, and stops the server when that fails."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        self.url = ""
        self.server: uvicorn.Server | None = None
        self.failure: Exception | None = None

    def opening(self) -> Opening:
        """For `create_app`."""
        judge = self._settings.judge
        return Opening(
            self._open,
            self._ready,
            self._failed,
            open_engine=self._open_engine,
            open_judge=None if judge is None else partial(open_engine, judge),
        )

    async def _open(self) -> Engines:
        reward = await asyncio.to_thread(_open_reward, self._settings)  # it reads weights
        try:
            engine, judge = await self._open_engines()
        except BaseException:
            if reward is not None:
                reward.close()
            raise
        return Engines(engine, judge, reward)

    async def _open_engines(self) -> tuple[Engine, Engine | None]:
        engine = await self._open_engine()
        if self._settings.judge in (None, self._settings.engine):
            return engine, None
        try:
            return engine, await open_engine(self._settings.judge)
        except BaseException:
            await engine.aclose()
            raise

    async def _open_engine(self) -> Engine:
        return await open_engine(self._settings.engine, options=self._options)

    def _ready(self, engines: Engines) -> None:
        identity = engines.engine.identity()
        say(f"ready on {self.url}: {identity.model} by {identity.engine} {identity.version}")

    def _failed(self, failure: Exception) -> None:
        self.failure = failure
        if self.server is not None:
            self.server.should_exit = True


def _open_reward(settings: Settings) -> RewardModel | None:
    """The reward model; what it is built on is loaded only where there is one."""
    if settings.reward is None:
        return None
    try:
        load = load_object("cai.train.scorer:RewardScorer").load
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("a reward model", exc.name or "torch", "train") from exc
    folder = resolve_policy(settings.reward, settings.home)
    model: RewardModel = load(folder, device=settings.reward_device)
    return model


def _make_key(settings: Settings, name: str, scopes: str, *, as_json: bool) -> None:
    if settings.api_key_file is None:
        raise ConfigError("--new-key needs --api-key-file: the file that the key is added to")
    wanted = _scopes(scopes)
    key = add_key(settings.api_key_file, name, wanted)
    if as_json:
        print_json({"name": name, "key": key, "scopes": wanted})
    else:
        print_text(key)
    say(f"added '{name}' to {settings.api_key_file}; the key is not shown again")


def _scopes(text: str) -> list[Scope]:
    known = {scope: scope for scope in SCOPES}
    wanted: list[Scope] = []
    for name in text.split(","):
        scope = known.get(name.strip())  # type: ignore[call-overload]
        if scope is None:
            raise ConfigError(f"no scope {name.strip()!r}{choices(name.strip(), SCOPES)}")
        wanted.append(scope)
    return list(dict.fromkeys(wanted))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
