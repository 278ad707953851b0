"""What is told of a model to others: no folders of this machine, no passwords."""

import pytest

from cai.train.facts import public_address, public_name, without_login


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("sandbox", "sandbox"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("vllm:Qwen/Qwen3-8B", "vllm:Qwen/Qwen3-8B"),
        ("vllm:/home/me/models/judge/", "vllm:judge"),
        ("vllm:~/models/judge", "vllm:judge"),
        ("policy:harmless-3", "policy:harmless-3"),
        ("scripted:/tmp/judge.yaml", "scripted:judge.yaml"),
        ("/home/me/policies/rm", "rm"),
        ("http://me:secret@host:8000/v1?key=secret#judge", "http://host:8000/v1#judge"),
        ("https://host/v1#@judge", "https://host/v1#@judge"),
    ],
)
def test_an_address_is_told_without_folders_and_passwords(address, told):
    assert public_address(address) == told


def test_a_folder_is_told_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "models" / "rm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "models")
    assert [public_name(ref) for ref in ("rm", "./rm", "..", "./rm/.")] == [
        *("rm", "rm", tmp_path.name, "rm")
    ]


def test_only_the_login_is_taken_off_where_the_rest_decides():
    assert without_login("https://a:b@host/v1?x=1#m") == "https://host/v1?x=1#m"
    assert without_login("harmless@2") == "harmless@2"
