"""From a job's request to the command that it runs, with ids for paths and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai.errors import CaiError, ConfigError, ConflictError, NotFoundError
from cai.jobs.kinds import kind_of, params_of, parse_spec
from cai.jobs.place import Command
from tests.jobs.helpers import Workshop
from tests.policy.registering import sealed


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(tmp_path, url="http://127.0.0.1:8123", job_devices="1,2") as shop:
        yield shop


def command(shop: Workshop, raw: dict[str, Any], id: str = "job-1") -> Command:
    """What the worker would run, checked as a submission is."""
    spec = parse_spec(raw)
    kind, params = kind_of(spec.kind), params_of(spec)
    kind.check(params, shop.jobs.place, id)
    return kind.command(params, shop.jobs.place, id)


def refusal(shop: Workshop, raw: Any) -> CaiError:
    with pytest.raises(CaiError) as caught:
        command(shop, raw)
    return caught.value


def train(**params: Any) -> dict[str, Any]:
    return {"kind": "train", "params": {"method": "dpo", "data": ["toy"], **params}}


def evaluation(**params: Any) -> dict[str, Any]:
    return {"kind": "eval", "params": {"policies": ["sandbox"], **params}}


def make_run(shop: Workshop, name: str = "toy") -> Path:
    folder = shop.home / "runs" / name
    folder.mkdir(parents=True)
    return folder


def test_a_dataset_job_asks_the_live_policy_of_the_server(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_API_KEY", "cai-secret")
    file = shop.upload("one\n")
    params = {"prompts": file, "constitution": "t@draft", "limit": 5, "temperature": 1}
    argv, env = command(shop, {"kind": "dataset", "params": params})
    assert argv[:3] == ("data", "generate", str(shop.home / "files" / file))
    given = dict(zip(argv[3:-1:2], argv[4:-1:2], strict=True))
    assert given == {
        "--out": str(shop.home / "runs" / "job-1"),
        "--constitution": "t@draft",
        "--engine": "http://127.0.0.1:8123/v1#live",
        "--limit": "5",
        "--temperature": "1.0",
    }
    assert argv[-1] == "--json"
    assert env == {"OPENAI_API_KEY": "cai-secret"}


def test_the_servers_key_goes_to_no_other_engine(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_API_KEY", "cai-secret")
    argv, env = command(shop, shop.dataset())
    assert argv[argv.index("--engine") + 1] == shop.engine
    assert env == {}


def test_a_training_job_names_folders_for_ids(shop: Workshop) -> None:
    run, file = make_run(shop), shop.upload("{}\n", "human.jsonl")
    folder = sealed(shop.home, "start")
    shop.jobs.place.policies.add(folder, actor="test")
    raw = train(files=[file], policy="start", name="mine", settings={"epochs": 2, "lora.rank": 4})
    argv, env = command(shop, raw)
    assert argv == (
        *("train", "dpo", "--data", str(run), "--data", str(shop.home / "files" / file)),
        *("--set", "epochs=2", "--set", "lora.rank=4"),
        *("--policy", str(folder), "--out", "mine", "--json"),
    )
    assert env == {"CUDA_VISIBLE_DEVICES": "1,2"}
    assert command(shop, train(name="mine", placement="shared")).env == {}


def test_an_evaluation_is_kept_under_the_jobs_id_and_asks_a_judge_only_where_needed(
    shop: Workshop,
) -> None:
    argv, env = command(shop, evaluation(suite="over-refusal", samples=2, placement="shared"))
    asked = ("eval", "policy", "sandbox", "--out", "job-1", "--json", "--suite", "over-refusal")
    assert argv == (*asked, "--samples", "2", "--text-only")
    assert env == {}
    argv, _ = command(shop, evaluation(suite="honesty"))
    assert argv[-2:] == ("--judge", "http://127.0.0.1:8123/v1#live")
    figures = {"suites": {"honesty": {"fault": "dishonest", "worst": {"sandbox": ["long"]}}}}
    spec = parse_spec(evaluation())
    told = kind_of("eval").result(
        params_of(spec), shop.jobs.place, "job-1", {"id": "job-1", "figures": figures}
    )
    assert told["figures"] == {"honesty": {"fault": "dishonest"}}
    assert told["result"] == "job-1"


@pytest.mark.parametrize(
    ("raw", "kind", "param"),
    [
        (train(data=["none"]), NotFoundError, "params.data"),
        (train(policy="none"), NotFoundError, "params.policy"),
        (train(files=["file-1.jsonl"]), NotFoundError, "file"),
        (train(policy="../x"), ConfigError, "params.policy"),
        (train(policy="/etc"), ConfigError, "params.policy"),
        (train(data=["a/b"]), ConfigError, "params.data.0"),
        (train(method="dpo2"), ConfigError, "params.method"),
        (train(settings={"epocs": 1}), ConfigError, "params.settings"),
        (train(settings={"epochs": -1}), ConfigError, "params.settings"),
        (train(settings={"data": "/etc"}), ConfigError, "params.settings"),
        (train(settings={"engine_args": "x"}), ConfigError, "params.settings"),
        (train(settings={'data=["/etc"] #': 1}), ConfigError, None),
        (train(name="a" * 47), ConfigError, "params.name"),
        (train(name="taken"), ConflictError, "params.name"),
        (evaluation(suite="harmlesness"), NotFoundError, "params.suite"),
        (evaluation(suite="mine.yaml"), NotFoundError, "params.suite"),
        (evaluation(policies=["none"]), NotFoundError, "params.policies"),
        (evaluation(suite="honesty", judge="http://else/v1#x"), ConfigError, "params.judge"),
        (evaluation(samples=65), ConfigError, "params.samples"),
        ({"kind": "dataset", "params": {}, "auto_promote": True}, ConfigError, "params.prompts"),
        ({**train(), "auto_promote": {"harmful": "x"}}, ConfigError, None),
        ({**train(), "auto_promote": {"harmfull": 0.1}}, ConfigError, "auto_promote"),
        ({**train(), "auto_promote": {"harmful": 7.0}}, ConfigError, "auto_promote"),
        ({**train(method="reward"), "auto_promote": True}, ConfigError, "auto_promote"),
        ({"kind": "gate", "params": {"policy": "sandbox", "limits": {"x": 1}}}, ConfigError, None),
    ],
)  # fmt: skip
def test_what_will_not_do_is_refused_by_its_key(
    shop: Workshop, raw: Any, kind: type[CaiError], param: str | None
) -> None:
    make_run(shop)
    (shop.home / "policies" / "taken").mkdir(parents=True)
    found = refusal(shop, raw)
    assert type(found) is kind, found
    assert param is None or found.param == param


def test_a_gate_has_the_devices_of_its_placement(shop: Workshop) -> None:
    """It opens an engine of its own, which must not land beside the server's."""
    raw: dict[str, Any] = {"kind": "gate", "params": {"policy": "sandbox"}}
    argv, env = command(shop, raw)
    assert (argv, env) == (("gate", "sandbox", "{}"), {"CUDA_VISIBLE_DEVICES": "1,2"})
    raw["params"]["placement"] = "shared"
    assert command(shop, raw).env == {}
    assert parse_spec(raw).is_shared


def test_only_a_training_job_promotes(shop: Workshop) -> None:
    raw = {**shop.dataset(), "auto_promote": True}
    assert refusal(shop, raw).param == "auto_promote"


def test_a_file_that_was_changed_is_not_used(shop: Workshop) -> None:
    raw = shop.dataset()
    path = shop.home / "files" / raw["params"]["prompts"]
    path.write_text("others\n")
    assert "was changed" in refusal(shop, raw).message


def test_without_a_server_an_engine_must_be_named(tmp_path: Path) -> None:
    with Workshop(tmp_path) as alone:
        raw = alone.dataset()
        del raw["params"]["engine"]
        assert "CAI_URL" in refusal(alone, raw).message
        make_run(alone)
        with pytest.raises(ConfigError, match="shared needs a server"):
            alone.jobs.submit(train(placement="shared"), actor="test")
