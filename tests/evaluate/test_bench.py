"""The harness's results as figures, the alignment tax, and how its program is found and started."""

import json
import sys

import pytest

from cai.errors import CaiError, ConfigError, MissingDependencyError, NotFoundError
from cai.evaluate import lm_eval
from cai.evaluate.bench import compared, figures, find_base, finite, is_same_measure
from cai.evaluate.results import EvalResult, PolicyRef, now, save

RAW = {
    "results": {
        "hellaswag": {
            "alias": "hellaswag",
            **{"acc,none": 0.25, "acc_stderr,none": 0.1, "acc_norm,none": 0.3333, "sample_len": 20},
        },
        "lambada": {"perplexity,none": 12.5, "perplexity_stderr,none": 0.5},
        "group": {"acc,none": float("nan"), "acc_stderr,none": "N/A"},
    },
    "n-samples": {"hellaswag": {"original": 100, "effective": 20}},
    "lm_eval_version": "0.4.13",
}
ASKED = lm_eval.Asked(("hellaswag", "lambada"), "http://127.0.0.1:1", "live", "tok", limit=20)


def made(id, ref, **results):
    raw = {"results": results, "n-samples": {name: {"effective": 100} for name in results}}
    return EvalResult(
        id=id,
        kind="bench",
        created_at=now(),
        policies=(PolicyRef(ref=ref, model=ref),),
        settings={"tasks": sorted(results), "limit": None, "num_fewshot": None, "seed": 1234},
        figures=figures(raw),
    )


def test_shares_of_items_are_rates_and_the_rest_values():
    """0.25 of 20 items is 5; 0.3333 is no whole number of them; NaN is no figure, and named."""
    found = figures(RAW)
    assert found["not_finite"] == {"group": {"acc,none": "nan"}}
    assert set(found["tasks"]) == {"hellaswag", "lambada"}
    hellaswag = found["tasks"]["hellaswag"]
    assert hellaswag["acc,none"]["rate"] == 0.25
    assert hellaswag["acc,none"]["n"] == 20
    assert hellaswag["acc_norm,none"] == {"value": 0.3333, "n": 20}
    assert found["tasks"]["lambada"] == {
        "perplexity,none": {"value": 12.5, "ci": [round(12.5 - 0.979982, 6), 13.479982]}
    }
    assert found["harness"] == "0.4.13"


def test_the_tax_is_what_training_took():
    base = made("b", "base", mmlu={"acc,none": 0.5}, bbh={"em,none": 0.2, "em_stderr,none": 0.01})
    new = made("n", "new", mmlu={"acc,none": 0.4})
    tax = compared(new, base)
    assert (tax["policy"], set(tax["tasks"])) == ("base", {"mmlu"})
    change = tax["tasks"]["mmlu"]["acc,none"]
    assert change["difference"] == -0.1
    assert change["ci"][0] < -0.1 < change["ci"][1]


def test_the_base_is_the_newest_under_the_same_settings(tmp_path):
    new = made("n", "new", mmlu={"acc,none": 0.4})
    with pytest.raises(NotFoundError, match="cai eval bench mmlu --policy base"):
        find_base(tmp_path, "base", new)
    base = made("b", "base", mmlu={"acc,none": 0.5}, bbh={"em,none": 0.2})
    save(tmp_path, base)
    limited = made("l", "base", mmlu={"acc,none": 0.6})
    save(tmp_path, limited.model_copy(update={"settings": {**limited.settings, "limit": 5}}))
    assert find_base(tmp_path, "base", new).id == find_base(tmp_path, "b", new).id == "b"
    own = new.model_copy(update={"settings": {**new.settings, "include_path": "/my/tasks"}})
    with pytest.raises(NotFoundError, match="under the same settings"):
        find_base(tmp_path, "base", own)


def test_tasks_of_another_version_are_not_the_same_measure():
    """A version that one did not record, or of a task that only one has, keeps nothing apart."""

    def versioned(**versions):
        one = made("n", "new", mmlu={"acc,none": 0.4})
        return one.model_copy(update={"settings": {**one.settings, "versions": versions}})

    assert not is_same_measure(versioned(mmlu=1), versioned(mmlu=2))
    assert is_same_measure(versioned(mmlu=1, bbh=1), versioned(mmlu=1, arc=2))
    assert is_same_measure(versioned(), versioned(mmlu=1))


def test_raw_results_have_null_for_what_json_has_no_number_for():
    raw = {"a": [float("nan"), 1.5, {"b": float("-inf")}], "c": "text", "d": True}
    assert finite(raw) == {"a": [None, 1.5, {"b": None}], "c": "text", "d": True}


def test_without_the_harness_the_install_line_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"cai-service\[bench\]"):
        lm_eval.find_program()
    with pytest.raises(ConfigError, match="'/none/lm_eval' is no program"):
        lm_eval.find_program("/none/lm_eval")
    assert lm_eval.find_program(sys.executable) == [sys.executable]


def test_the_program_gets_its_words_and_its_key_and_its_results_are_read(tmp_path):
    script = tmp_path / "harness.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        "words = sys.argv[1:]\n"
        "out = pathlib.Path(words[words.index('--output_path') + 1], 'live')\n"
        "out.mkdir()\n"
        "told = {'results': {}, 'words': words, 'key': os.environ['OPENAI_API_KEY']}\n"
        "(out / 'results_2026.json').write_text(json.dumps(told))\n"
    )
    told = lm_eval.run([sys.executable, str(script)], ASKED, api_key="secret")
    assert told["key"] == "secret"
    words = told["words"]
    model = json.loads(words[words.index("--model_args") + 1])
    assert model["base_url"] == "http://127.0.0.1:1/v1/completions"
    assert model["tokenizer"] == "tok"
    at = words.index("--tasks")
    assert words[at + 1 : at + 3] == ["hellaswag", "lambada"]
    assert words[words.index("--limit") + 1] == "20"
    assert "--include_path" not in words


@pytest.mark.parametrize(
    ("code", "said"),
    [("import sys; sys.exit(3)", "ended with code 3"), ("pass", "wrote no results")],
)
def test_a_harness_that_fails_is_an_error(tmp_path, code, said):
    script = tmp_path / "harness.py"
    script.write_text(code)
    with pytest.raises(CaiError, match=said):
        lm_eval.run([sys.executable, str(script)], ASKED)
