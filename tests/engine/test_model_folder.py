"""What a model folder may hold: planted code never runs and is refused by name."""

import json
import os

import pytest

from cai.engine.model_folder import check_model_folder, digest_model_folder
from cai.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    """What a clean export looks like."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (model / "tokenizer_config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    return model


def test_a_clean_folder_passes(folder):
    check_model_folder(folder)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "modeling.py",
            "MODELING.PY",
            "a.pyc",
            "ext.so",
            "pytorch_model.bin",
            "training_args.bin",
        ),
        *("weights.pt", "weights.pth", "weights.ckpt", "state.pkl", "state.pickle", "x.joblib"),
        *("x.npy", "x.npz", "sub/deeper/tool.py", "custom_generate/generate.py", ".hidden.py"),
    ],
)
def test_planted_code_and_pickles_are_refused_by_name_and_do_not_run(folder, name, tmp_path):
    planted = folder / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    ran = tmp_path / "ran"
    planted.write_text(f"open({str(ran)!r}, 'w')")
    with pytest.raises(ConfigError) as caught:
        check_model_folder(folder)
    assert str(planted) in caught.value.message
    assert "trust_remote_code=true" in caught.value.message
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Evil"}}),
        ("config.json", {"text_config": {"auto_map": {}}}),
        ("config.json", {"parts": [{"auto_map": {}}]}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tok.Evil", None]}}),
        ("generation_config.json", {"auto_map": {}}),
        ("preprocessor_config.json", {"auto_map": {}}),
        ("sub/config.json", {"auto_map": {}}),
    ],
)
def test_a_config_that_asks_for_code_is_refused_by_name(folder, name, content):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"{name}: 'auto_map' asks for code"):
        check_model_folder(folder)


def test_a_link_to_code_or_to_a_folder_is_refused_and_to_a_blob_is_not(folder, tmp_path):
    """The hub's cache links every file to a blob outside the snapshot."""
    blob = tmp_path / "abc123"
    blob.write_bytes(b"weights")
    os.symlink(blob, folder / "model-2.safetensors")
    check_model_folder(folder)
    code = tmp_path / "evil.py"
    code.write_text("")
    os.symlink(code, folder / "notes.txt")
    with pytest.raises(ConfigError, match=r"notes\.txt: code"):
        check_model_folder(folder)
    (folder / "notes.txt").unlink()
    os.symlink(tmp_path, folder / "more")
    with pytest.raises(ConfigError, match="a link to a folder"):
        check_model_folder(folder)


def test_an_operator_may_trust_the_author(folder):
    (folder / "modeling.py").write_text("")
    check_model_folder(folder, trust_remote_code=True)


def test_what_is_no_model_folder_says_why(folder, tmp_path):
    with pytest.raises(ConfigError, match="no such model folder"):
        check_model_folder(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        check_model_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no \.safetensors file"):
        check_model_folder(folder)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "\udcff", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused_by_name(folder, text):
    (folder / "tokenizer_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: "):
        check_model_folder(folder)


def test_the_digest_follows_content_and_names_and_nothing_else(folder):
    before = digest_model_folder(folder)
    (folder / "README.md").write_text("hello")
    (folder / "manifest.json").write_text("{}")
    (folder / "folder.json").mkdir()
    assert digest_model_folder(folder) == before
    (folder / "model.safetensors").write_bytes(b"weightt")
    changed = digest_model_folder(folder)
    assert changed != before
    (folder / "model.safetensors").write_bytes(b"weights")
    assert digest_model_folder(folder) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert digest_model_folder(folder) != before
