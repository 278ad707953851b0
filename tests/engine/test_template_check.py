"""A template is code: those that eat time or memory are refused before a model is served."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cai.engine.template_check import check_template, check_template_text, read_template
from cai.errors import ConfigError
from tests.engine.test_template import DROPS_THINKING, LLAMA2

BOMBS = {
    "nineteen characters": "{{ 'a'*200000000 }}",
    "nested loops": "{% for a in range(9**5) %}{% for b in range(9**5) %}{% endfor %}{% endfor %}",
    "endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "only in long conversations": "{% if messages | length > 10 %}{{ 'a' * 10**9 }}{% endif %}",
}


def test_bombs_are_refused_in_seconds():
    def refusal(name: str) -> str:
        started = time.monotonic()
        with pytest.raises(ConfigError) as caught:
            check_template_text(BOMBS[name], origin=name)
        assert time.monotonic() - started < 30, name
        return caught.value.message

    with ThreadPoolExecutor(2) as pool:
        for name, message in zip(BOMBS, pool.map(refusal, BOMBS), strict=True):
            assert message.startswith(f"{name}: the chat template takes too much time or memory")


def test_ordinary_templates_pass():
    check_template_text(LLAMA2 + DROPS_THINKING, origin="model")


def test_a_template_that_is_not_jinja_is_refused_with_its_line():
    with pytest.raises(ConfigError, match=r"folder: the chat template is not valid: line 2:"):
        check_template_text("{% for m in messages %}\n{{ m.content }", origin="folder")


def test_the_template_is_read_where_transformers_reads_it(tmp_path):
    assert read_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "in the config"}))
    assert read_template(tmp_path) == ("in the config", config)
    named = [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "named"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert read_template(tmp_path) == ("named", config)
    plain = tmp_path / "chat_template.jinja"
    plain.write_text("in its own file")
    assert read_template(tmp_path) == ("in its own file", plain)


def test_a_bomb_in_a_folder_is_refused_by_the_name_of_its_file(tmp_path):
    check_template(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(BOMBS["nineteen characters"])
    with pytest.raises(ConfigError, match=r"chat_template\.jinja: the chat template takes too"):
        check_template(tmp_path)


def test_a_template_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        check_template(tmp_path)


def test_a_broken_tokenizer_config_is_refused(tmp_path):
    for text in ("{", "[]", "nul"):
        (tmp_path / "tokenizer_config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
            check_template(tmp_path)
