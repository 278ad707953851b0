"""`cai serve` as a process: its address, its readiness, its end; and what it refuses to start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from cai.cli.main import main
from cai.cli.serve import parse_engine_args
from cai.errors import ConfigError
from server.auth import Keyring
from tests.server.helpers import chat_body, make_store

CHAT = "/v1/chat/completions"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.yaml"
    path.write_text("rules:\n  - answer: One two three.\ndelay_s: 0.3\n")
    return path


@contextmanager
def running(folder: Path, *args: str, has_worker: bool = False) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which is gone at the end."""
    make_store(folder / "constitutions")
    own = {"CAI_CONSTITUTIONS": str(folder / "constitutions"), "CAI_HOME": str(folder / "var")}
    own["CAI_WORKER"] = str(has_worker)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAI_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cai.cli.main", "serve", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, **own},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ready(url: str, *, limit_s: float = 20.0) -> None:
    """Wait until the engine is there."""
    end = time.monotonic() + limit_s
    while httpx2.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_prints_its_address_answers_and_drains_on_sigterm(tmp_path: Path, script: Path) -> None:
    with running(tmp_path, "--engine", f"scripted:{script}", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        ready(url)
        port = int(url.rpartition(":")[2])
        content = json.dumps(chat_body()).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(
                f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                f"content-length: {len(content)}\r\n\r\n".encode()
                + content
            )
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            answered = b""
            while b"One two three." not in answered:  # head and body may come in two pieces
                piece = connection.recv(65536)
                assert piece, answered
                answered += piece
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert f"listening on {url}; loading scripted:{script}" in said
    assert f"ready on {url}: scripted:script.yaml by scripted 1" in said
    assert said.endswith("stopped\n")
    assert "route=/v1/chat/completions status=200" in said
    assert "Traceback" not in said


def test_sigint_stops_it_too(tmp_path: Path, script: Path) -> None:
    with running(tmp_path, "--engine", f"scripted:{script}", "--port", "0", "--json") as process:
        assert process.stdout is not None
        told = json.loads("".join(process.stdout.readline() for _ in range(4)))
        ready(told["url"])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


def test_engine_that_does_not_open_ends_it_with_its_reason(tmp_path: Path) -> None:
    with running(tmp_path, "--engine", "scripted:none.yaml", "--port", "0") as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "none.yaml" in said.splitlines()[-1]
    assert "Traceback" not in said


def serve(*args: str) -> int:
    return main(["serve", *args])


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("CAI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_wider_bind_without_keys_is_refused(capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert serve("--host", host, "--engine", "scripted:x.yaml") == 2
    error = capsys.readouterr().err
    assert "--api-key-file" in error
    assert error.count("\n") == 1


def test_taken_port_is_named_before_the_engine_loads(
    capsys: pytest.CaptureFixture[str], script: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve("--engine", f"scripted:{script}", "--port", str(port)) == 2
    error = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is taken" in error
    assert error.count("\n") == 1


def test_unknown_host_is_one_line(capsys: pytest.CaptureFixture[str], script: Path) -> None:
    code = serve("--engine", f"scripted:{script}", "--host", "127.0.0.300", "--port", "0")
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_new_key_is_printed_once_and_works(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "keys.yaml"
    args = ("--api-key-file", str(path), "--new-key", "jane", "--scopes", "infer,admin")
    assert serve(*args) == 0
    key = capsys.readouterr().out.strip()
    found = Keyring.from_file(path).find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("jane", ("infer", "admin"))
    assert key not in path.read_text()
    assert serve(*args) == 1
    assert "already has a key named 'jane'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--new-key", "jane"), "--new-key needs --api-key-file"),
        (("--new-key", "Jane Doe", "--api-key-file", "k.yaml"), "k.yaml"),
        (("--new-key", "a", "--api-key-file", "k.yaml", "--scopes", "root"), "no scope 'root'"),
        (("--api-key-file", "none.yaml"), "none.yaml"),
        (("--port", "70000"), "port"),
        (("--engine", "scripted:x", "--engine-arg", "max_model_len"), "name=value"),
    ],
)
def test_bad_usage_is_exit_2_and_one_line(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    assert serve(*args) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_engine_arguments_are_json_where_they_can_be() -> None:
    pairs = ["max-model-len=2048", "dtype=bfloat16", "enforce_eager=true", 'a={"b": 1}']
    assert parse_engine_args(pairs) == {
        "max_model_len": 2048, "dtype": "bfloat16", "enforce_eager": True, "a": {"b": 1},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="given twice"):
        parse_engine_args(["a=1", "a=2"])
