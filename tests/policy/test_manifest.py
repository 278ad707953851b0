"""A sealed folder is vouched for byte by byte; whatever differs afterwards is named."""

import json
import os
import shutil

import pytest

from cai.engine.model_folder import digest_model_folder
from cai.errors import ConfigError, PolicyError
from cai.policy import manifest as manifests
from cai.policy.manifest import (
    DataSource,
    Probe,
    RewardProbe,
    check_tensors,
    read_manifest,
    seal,
    tensors_of,
    verify,
)
from tests.engine.test_weights import entry, write

PROBE = Probe(prompt_ids=(1, 2), continuation_ids=(3,), logprobs=(-0.5,))
FIELDS = {"name": "first", "kind": "full", "method": "sft", "base": "sandbox"}


@pytest.fixture
def folder(tmp_path):
    """A policy folder as small as one can be."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "README.md").write_text("hello")
    write(folder / "model.safetensors", {"a": entry(), "b": entry("BF16", (2,), (16, 20))}, 20)
    return folder


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_sealed_is_read_back_and_verified(folder):
    source = DataSource(name="run-1", digest="sha256:x", num_rows=7)
    sealed = seal(
        folder,
        **FIELDS,
        parent="zero",
        config={"lr": 1e-4, "lora": None},
        seeds={"train": 7},
        data=(source,),
        constitutions={"harmless@2": "sha256:y"},
        probes=(PROBE,),
        metrics={"loss": 0.25},
    )
    assert sealed == read_manifest(folder) == verify(folder) == check_tensors(folder)
    assert sealed.tensors == tensors_of(folder)
    assert sorted(sealed.files) == [
        *("README.md", "chat_template.jinja", "config.json", "model.safetensors")
    ]
    assert (sealed.data, sealed.probes, sealed.format) == ((source,), (PROBE,), 1)
    assert sealed.template_digest.startswith("sha256:")


def test_the_digest_is_that_of_the_model_folder_and_is_not_of_the_manifest(folder):
    first = seal(folder, **FIELDS).digest
    assert first == digest_model_folder(folder)
    assert seal(folder, **{**FIELDS, "name": "renamed"}).digest == first
    (folder / "README.md").write_text("other")
    assert seal(folder, **FIELDS).digest == first == digest_model_folder(folder)
    (folder / "config.json").write_text("{ }")
    assert seal(folder, **FIELDS).digest != first


def test_every_difference_is_listed(folder):
    seal(folder, **FIELDS)
    (folder / "config.json").write_text("{ }")
    (folder / "chat_template.jinja").unlink()
    (folder / "notes.txt").write_text("")
    write(folder / "model.safetensors", {"a": entry("I32"), "c": entry("F32", (1,), (16, 20))}, 20)
    with pytest.raises(PolicyError) as caught:
        verify(folder)
    assert caught.value.message == (
        f"{folder}: not what was sealed: chat_template.jinja is missing; config.json changed; "
        "model.safetensors changed; notes.txt is not in the manifest; "
        "tensor a is I32[2, 2], not F32[2, 2]; tensor b is missing; "
        "tensor c is not in the manifest"
    )


def test_one_flipped_bit_is_found_and_the_quick_check_does_not_look_for_it(folder):
    seal(folder, **FIELDS)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(PolicyError, match=r"model\.safetensors changed$"):
        verify(folder)
    check_tensors(folder)


def test_a_torn_file_is_named_by_both_checks(folder):
    seal(folder, **FIELDS)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for check in (verify, check_tensors):
        with pytest.raises(PolicyError, match=r"model\.safetensors: torn: the data ends 1 bytes"):
            check(folder)


def test_a_long_list_is_cut_and_counted(folder):
    seal(folder, **FIELDS)
    for index in range(20):
        (folder / f"extra-{index:02d}.txt").write_text("")
    with pytest.raises(PolicyError, match=r"extra-11\.txt is not in the manifest; and 8 more"):
        verify(folder)


def test_code_is_refused_by_name_before_and_after_the_seal(folder):
    (folder / "modeling.py").write_text("")
    with pytest.raises(ConfigError, match=r"modeling\.py: code"):
        seal(folder, **FIELDS)
    assert not (folder / "manifest.json").exists()
    (folder / "modeling.py").unlink()
    seal(folder, **FIELDS)
    (folder / "training_args.bin").write_text("")
    for check in (verify, check_tensors):
        with pytest.raises(ConfigError, match=r"training_args\.bin: code or pickled"):
            check(folder)


def test_a_seal_that_fails_leaves_the_old_manifest_and_no_other_file(folder, monkeypatch):
    seal(folder, **FIELDS)
    before, names = (folder / "manifest.json").read_bytes(), sorted(os.listdir(folder))

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        seal(folder, **{**FIELDS, "name": "second"})
    assert (folder / "manifest.json").read_bytes() == before
    assert sorted(os.listdir(folder)) == names


def test_every_file_is_durable_before_the_manifest_stands(folder, monkeypatch):
    log = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: log.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(os, "replace", lambda *args: (log.append("replace"), replace(*args)))
    seal(folder, **FIELDS)
    monkeypatch.setattr(os, "fsync", fsync)
    first = set(log[: log.index("replace")])
    assert {str(path) for path in folder.glob("[!m]*")} | {str(folder)} <= first
    assert str(folder / "model.safetensors") in first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "half"}, "kind: Input should be 'full', 'lora' or 'reward'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"metrics": {"loss": float("nan")}}, r"metrics\.loss: .*finite"),
        ({"config": {"path": object()}}, "the config is not JSON"),
        ({"config": {"lr": float("nan")}}, "the config is not JSON"),
        ({"name": None}, "name: Input should be a valid string"),
    ],
)
def test_a_field_that_will_not_do_is_named_and_nothing_is_written(folder, changes, message):
    with pytest.raises(PolicyError, match=rf"not sealed: {message}"):
        seal(folder, **{**FIELDS, **changes})
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"files": {"../x": "sha256:" + "0" * 64}}, "is no name of a file below the folder"),
        ({"files": {"/x": "sha256:" + "0" * 64}}, "is no name"),
        ({"files": {"a/./x": "sha256:" + "0" * 64}}, "is no name"),
        ({"files": {"x": "md5:0"}}, "is no digest"),
        ({"created_at": 5}, "created_at"),
        ({"tensors": {"a": {"shape": ["2"], "dtype": "F32"}}}, r"tensors\.a\.shape"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_by_field(folder, changes, message):
    seal(folder, **FIELDS)
    edit(folder, **changes)
    with pytest.raises(PolicyError, match=rf"manifest\.json: no policy's manifest: .*{message}"):
        read_manifest(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": 1e99999}'])
def test_a_manifest_that_is_no_json_object_is_refused(folder, data):
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(PolicyError, match=r"manifest\.json: "):
        read_manifest(folder)


def test_a_huge_manifest_and_a_missing_one_are_refused(folder, monkeypatch):
    with pytest.raises(PolicyError, match=r"no policy folder: it has no manifest\.json"):
        read_manifest(folder)
    seal(folder, **FIELDS)
    monkeypatch.setattr(manifests, "MAX_BYTES", 100)
    with pytest.raises(PolicyError, match="larger than"):
        read_manifest(folder)


def test_an_adapter_is_sealed_by_its_own_config(folder):
    shutil.move(folder / "config.json", folder / "adapter_config.json")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        seal(folder, **FIELDS)
    seal(folder, **{**FIELDS, "kind": "lora"})
    assert verify(folder).kind == "lora"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logprobs": ()}, "one log-prob for each"),
        ({"logprobs": (0.1,)}, "positive or not finite"),
        ({"logprobs": (float("-inf"),)}, "finite"),
        ({"prompt_ids": ()}, "prompt_ids"),
        ({"continuation_ids": (-1,)}, "negative token id"),
    ],
)
def test_a_probe_that_cannot_be_replayed_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Probe(**{**PROBE.model_dump(), **changes})


def test_a_reward_model_has_probes_of_its_own(folder):
    probe = RewardProbe(ids=(1, 2, 3), reward=-1.5)
    seal(folder, **{**FIELDS, "kind": "reward", "method": "reward"}, reward_probes=(probe,))
    assert verify(folder).reward_probes == (probe,)
