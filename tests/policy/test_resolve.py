"""A reference is the sandbox, a path, or a name; what it is not is said with what there is."""

import pytest

from cai.engine.open import SANDBOX_MODEL
from cai.errors import ConfigError, NotFoundError
from cai.policy.resolve import policy_names, resolve_policy


@pytest.fixture
def home(tmp_path):
    for name in ("harmless-sft", "harmless-dpo"):
        (tmp_path / "policies" / name).mkdir(parents=True)
    (tmp_path / "policies" / "harmless-dpo" / "manifest.json").write_text("{}")
    return tmp_path


def test_the_three_kinds_of_reference(home, monkeypatch):
    assert resolve_policy("sandbox", home) == SANDBOX_MODEL
    assert resolve_policy("harmless-sft", home) == home / "policies" / "harmless-sft"
    assert resolve_policy(str(home / "policies"), home) == home / "policies"
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    assert resolve_policy("./policies", home).resolve() == home / "policies"
    assert resolve_policy("~/policies", home) == home / "policies"


def test_an_unknown_name_is_answered_with_close_ones(home):
    with pytest.raises(NotFoundError, match=r"no policy 'harmless-dp' .* mean 'harmless-dpo'"):
        resolve_policy("harmless-dp", home)
    with pytest.raises(NotFoundError, match="there are: harmless-dpo, sandbox"):
        resolve_policy("zzz", home)


@pytest.mark.parametrize("ref", ["", "Names", "a b", "-x", "x" * 65, "a\0b", "a\\b", "%2e%2e"])
def test_what_can_be_no_name_is_refused(home, ref):
    with pytest.raises(ConfigError, match="is no policy; give sandbox, a path"):
        resolve_policy(ref, home)


def test_a_path_that_is_not_there_is_named(home):
    with pytest.raises(NotFoundError, match=r"no policy folder at '\./nowhere'"):
        resolve_policy("./nowhere", home)


def test_only_finished_policies_are_listed(home):
    assert policy_names(home) == ["harmless-dpo"]
