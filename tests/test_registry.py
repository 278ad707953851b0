"""Names that stand for objects elsewhere."""

import sys

import pytest

from cai.errors import ConfigError, NotFoundError
from cai.registry import Registry, choices, did_you_mean, load_object


def test_a_name_is_imported_only_when_it_is_asked_for():
    registry = Registry("check", {"parse": "cai.constitution.store:parse_ref", "no": "no_such:x"})
    assert list(registry) == ["no", "parse"]
    assert "parse" in registry
    assert registry.get("parse") is sys.modules["cai.constitution.store"].parse_ref
    with pytest.raises(ModuleNotFoundError):
        registry.get("no")


def test_an_unknown_name_is_answered_with_the_closest_and_all():
    registry = Registry("check", {"harmful": "json:loads", "good": "json:loads"})
    with pytest.raises(NotFoundError) as caught:
        registry.get("harmfull")
    assert caught.value.message == (
        "no check 'harmfull'; did you mean 'harmful'? there are: good, harmful"
    )


def test_a_name_keeps_its_first_target():
    registry = Registry("check", {})
    registry.register("a", "json:loads")
    registry.register("a", "json:loads")
    with pytest.raises(ConfigError, match="already json:loads; choose another name"):
        registry.register("a", "json:dumps")


@pytest.mark.parametrize("target", ["json", "json:", ":loads", ""])
def test_a_target_without_module_and_object_is_refused(target):
    with pytest.raises(ConfigError, match="write it as module:object"):
        load_object(target)


def test_a_missing_object_is_answered_with_the_closest():
    with pytest.raises(ConfigError, match="the module json has no 'load_s'; did you mean 'loads'"):
        load_object("json:load_s")


def test_guesses_are_made_only_when_something_is_close():
    assert did_you_mean("critque", ["critique", "revision"]) == "; did you mean 'critique'?"
    assert did_you_mean("zzz", ["critique", "revision"]) == ""
    assert choices("zzz", []) == "; there are: none"
