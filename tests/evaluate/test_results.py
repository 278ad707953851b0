"""Results kept and found again; broken ones are named and skipped, changed lines are refused."""

import logging
import re

import pytest
from pydantic import ValidationError

from cai.errors import ConfigError, ConflictError, DataError, NotFoundError
from cai.evaluate.results import (
    EvalResult,
    PolicyRef,
    check_id,
    folder_of,
    list_results,
    load,
    new_id,
    now,
    read_lines,
    save,
)


def made(id="one", **more):
    values = {"kind": "policy", "created_at": now(), "figures": {"rate": 0.5}, **more}
    return EvalResult(id=id, policies=(PolicyRef(ref="sandbox", model="s"),), **values)


def test_a_result_comes_back_with_its_lines(tmp_path):
    folder = save(tmp_path, made(), {"answers.jsonl": [{"a": "é\ud800"}, {"a": 2}]})
    kept = load("one", tmp_path)
    assert kept.figures == {"rate": 0.5}
    assert set(kept.files) == {"answers.jsonl"}
    assert read_lines(folder, kept, "answers.jsonl") == [{"a": "é\ud800"}, {"a": 2}]
    assert read_lines(folder, kept, "verdicts.jsonl") == []
    assert load(folder, tmp_path) == load(folder / "result.json", tmp_path) == kept
    assert folder_of("one", tmp_path) == folder


def test_lines_that_were_changed_are_refused(tmp_path):
    folder = save(tmp_path, made(), {"answers.jsonl": [{"a": 1}]})
    (folder / "answers.jsonl").write_text('{"a":2}\n')
    with pytest.raises(DataError, match=r"answers.jsonl: missing or changed"):
        read_lines(folder, load("one", tmp_path), "answers.jsonl")


def test_a_taken_id_and_one_that_is_none_are_refused(tmp_path):
    save(tmp_path, made())
    with pytest.raises(ConflictError, match="'one' is there already"):
        save(tmp_path, made())
    for id in ("../x", "A", "", "a/b"):
        with pytest.raises(ConfigError, match="is no id of a result"):
            check_id(tmp_path, id)
    with pytest.raises(ConfigError, match="no name of a file of lines"):
        save(tmp_path, made("two"), {"../answers.jsonl": []})


def test_a_stopped_one_does_not_count_and_may_be_written_again(tmp_path):
    (tmp_path / "evals" / "one").mkdir(parents=True)
    assert list_results(tmp_path) == []
    save(tmp_path, made())
    assert [one.id for one in list_results(tmp_path)] == ["one"]


def test_broken_ones_are_skipped_with_their_name(tmp_path, caplog):
    save(tmp_path, made("old", created_at="2026-01-01T00:00:00+00:00"))
    save(tmp_path, made("new", created_at="2026-02-01T00:00:00+00:00"))
    for name, text in (("torn", "{"), ("other", '{"format": 1}')):
        (tmp_path / "evals" / name).mkdir()
        (tmp_path / "evals" / name / "result.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert [one.id for one in list_results(tmp_path)] == ["new", "old"]
    assert "torn" in caplog.text
    assert "other" in caplog.text


def test_an_unknown_one_names_the_closest(tmp_path):
    save(tmp_path, made("baseline"))
    with pytest.raises(NotFoundError, match="did you mean 'baseline'"):
        load("basline", tmp_path)


def test_nan_is_no_figure():
    with pytest.raises(ValidationError, match="JSON"):
        made(figures={"rate": float("nan")})


def test_a_new_id_says_kind_and_time():
    assert re.fullmatch(r"judge-\d{8}-\d{6}-[0-9a-f]{4}", new_id("judge"))
