"""Flag over environment over file over default; what is unknown is named."""

import os
from pathlib import Path

import pytest

from cai.errors import ConfigError
from cai.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("CAI_")]:
        monkeypatch.delenv(name)


def test_without_anything_the_defaults_hold(tmp_path):
    settings = load_settings(folder=tmp_path)
    assert settings == Settings()
    assert settings.home == Path("var")
    assert settings.host == "127.0.0.1"


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(tmp_path, monkeypatch):
    (tmp_path / "cai.yaml").write_text("port: 1\nmax_queue: 2\nhost: localhost\n")
    monkeypatch.setenv("CAI_PORT", "3")
    monkeypatch.setenv("CAI_MAX_QUEUE", "4")
    settings = load_settings({"port": 5, "engine": None}, folder=tmp_path)
    assert (settings.port, settings.max_queue, settings.host) == (5, 4, "localhost")
    assert settings.engine == "sandbox"


def test_building_settings_reads_no_variable(monkeypatch):
    monkeypatch.setenv("CAI_PORT", "3")
    assert Settings().port == 8000


def test_an_empty_variable_and_an_empty_file_are_not_given(tmp_path, monkeypatch):
    monkeypatch.setenv("CAI_JUDGE", "")
    (tmp_path / "cai.yaml").write_text("# nothing yet\n")
    assert load_settings(folder=tmp_path) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CAI_PROT", "1", "unknown variable CAI_PROT; did you mean 'CAI_PORT'?"),
        ("CAI_PORT", "x", "CAI_PORT is the text 'x' and must be a whole number"),
        ("CAI_PORT", "70000", "CAI_PORT is 70000 and must be at most 65535"),
        ("CAI_REQUEST_TIMEOUT_S", "nan", "CAI_REQUEST_TIMEOUT_S is 'nan'"),
        ("CAI_REQUEST_TIMEOUT_S", "0", "CAI_REQUEST_TIMEOUT_S is 0 and must be greater than 0"),
        ("CAI_ALLOWED_HOSTS", "a.example", "write a list in a variable as JSON"),
    ],
)
def test_a_bad_variable_is_named(tmp_path, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings(folder=tmp_path)
    assert message in caught.value.message


def test_a_key_in_a_variable_is_no_setting_and_is_in_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CAI_API_KEY", "cai-secret")
    monkeypatch.setenv("CAI_DATABASE_URL", "postgresql://me:s3cret@host/name")
    settings = load_settings(folder=tmp_path)
    assert settings.database_url == "postgresql://me:s3cret@host/name"
    assert "cai-secret" not in settings.model_dump_json()
    assert "s3cret" not in repr(settings)


def test_a_list_in_a_variable_is_json(tmp_path, monkeypatch):
    monkeypatch.setenv("CAI_ALLOWED_HOSTS", '["a.example", "b.example"]')
    assert load_settings(folder=tmp_path).allowed_hosts == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1\n", "cai.yaml:1:1: unknown key 'prot'; did you mean 'port'?"),
        ("port: '1'\n", "cai.yaml:1:7: port is the text '1' and must be a whole number"),
        ("port: 1\nport: 2\n", "cai.yaml:2:1: has 'port' twice"),
        ("host: no\nport: yes\n", "cai.yaml:2:7: port is the text 'yes'"),
        ("judge:\n", "cai.yaml:1:1: judge has no value; write it or delete it"),
        ("- port\n", "cai.yaml:1:1: the file is a list and must be a mapping"),
        ("home: !!python/name:os.system x\n", "cai.yaml:1:7: has a tag"),
    ],
)
def test_a_bad_file_is_a_config_error_at_its_line(tmp_path, text, message):
    (tmp_path / "cai.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(folder=tmp_path)
    assert message in caught.value.message


def test_a_bad_flag_is_named_as_it_is_typed(tmp_path):
    with pytest.raises(ConfigError, match=r"^--max-queue is -1 and must be at least 0"):
        load_settings({"max_queue": -1}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"^unknown setting --prot; did you mean 'port'"):
        load_settings({"prot": 1}, folder=tmp_path)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        *(("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False)),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host, is_loopback):
    assert Settings(host=host).is_loopback == is_loopback
