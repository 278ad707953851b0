"""`cai policy`: from a trained folder to a live policy and back, and every refusal's exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai.cli import policy_verify
from cai.cli.main import main
from cai.evaluate.results import EvalResult, JudgeRef, PolicyRef, save
from cai.policy.manifest import DataSource, Probe, seal
from cai.types import TokenLogprob, TokenPrompt
from tests.policy.registering import FIELDS, sealed

PROBE = Probe(prompt_ids=(1, 2), continuation_ids=(3, 4), logprobs=(-1.0, -1.0))
ROWS = DataSource(name="run-1", digest="sha256:rows", num_rows=1234)

Run = Callable[..., dict[str, Any]]


class Engine:
    """Gives every token the log-prob -1."""

    dtype = "float32"

    async def prompt_logprobs(
        self, prompt: TokenPrompt, *, top: int = 0
    ) -> tuple[TokenLogprob, ...]:
        return tuple(TokenLogprob(id, "", -1.0) for id in prompt.ids[1:])

    async def aclose(self) -> None:
        """Nothing is held."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command with --json, and gives its answer."""

    def run(*args: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["policy", *args, "--json"]) == code, capsys.readouterr().err
        out = capsys.readouterr().out
        return json.loads(out) if out else {}

    return run


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of engines that were opened."""
    addresses: list[str] = []

    async def open_engine(address: str) -> Engine:
        addresses.append(address)
        return Engine()

    monkeypatch.setattr(policy_verify, "open_engine", open_engine)
    return addresses


def test_from_a_folder_to_live_and_back(
    run: Run, home: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        folder = sealed(home, name, probes=(PROBE,), data=(ROWS,))
        assert run("add", name)["state"] == "candidate"
        assert run("verify", name)["state"] == "verified"
        assert opened.pop() == f"vllm:{folder}"
        assert run("promote", name)["state"] == "live"
    assert run("rollback")["id"] == "first"
    assert [(one["id"], one["state"]) for one in run("list")] == [
        ("second", "retired"),
        ("first", "live"),
    ]
    told = run("show", "first")
    assert [event["to_state"] for event in told["events"]] == [
        *("candidate", "verified", "live", "retired", "live"),
    ]
    assert told["events"][1]["figures"]["max_abs_diff"] == 0.0
    assert told["events"][1]["actor"].startswith("cli")
    assert told["lineage"]["policies"][0]["data"][0]["num_rows"] == 1234
    assert main(["policy", "rollback"]) == 1
    assert "no policy was live before 'first'" in capsys.readouterr().err


def test_show_prints_the_way_back_to_rows_constitutions_and_parents(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed(home, "sft", constitutions={"harmless@2": "sha256:c"}, base_digest="sha256:b")
    parent = run("add", "sft")["digest"]
    more = {"parent": "sft", "parent_digest": parent, "base_digest": "sha256:b"}
    sealed(home, "dpo", method="dpo", data=(ROWS,), **more)
    run("add", "dpo")
    assert main(["policy", "show", "dpo"]) == 0
    out = capsys.readouterr().out
    assert "dpo  candidate, full, trained by dpo" in out
    assert "data          run-1  sha256:rows  1,234 rows" in out
    assert f"sft  {parent}  (candidate, sft, sealed" in out
    assert "constitution  harmless@2  sha256:c" in out
    assert out.rstrip().endswith("base sandbox  sha256:b")


def test_verify_rejects_what_is_not_as_sealed_with_the_evidence(
    run: Run, home: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sealed(home, "torn", probes=(PROBE,))
    run("add", "torn")
    (folder / "config.json").write_text("{}")
    assert run("verify", "torn", code=2)["state"] == "rejected"
    assert opened == []
    assert "config.json changed" in run("show", "torn")["events"][-1]["reason"]
    assert main(["policy", "promote", "torn"]) == 1
    assert "was rejected" in capsys.readouterr().err
    shutil.rmtree(folder)
    sealed(home, "torn", probes=(PROBE,))


def test_verify_rejects_the_same_files_sealed_anew_with_other_probes(
    run: Run, home: Path, opened: list[str]
) -> None:
    """The digest of the files is the same; the probes that vouch for them are others."""
    folder = sealed(home, "again", probes=(PROBE,))
    run("add", "again")
    other = PROBE.model_copy(update={"logprobs": (-1.0, -9.0)})
    seal(folder, **{**FIELDS, "name": "again", "probes": (other,)})
    assert run("verify", "again", code=2)["state"] == "rejected"
    assert opened == []
    assert "holds another policy now" in run("show", "again")["events"][-1]["reason"]


def test_verify_rejects_an_engine_that_answers_otherwise(
    run: Run, home: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    off = PROBE.model_copy(update={"logprobs": (-1.0, -1.5)})
    sealed(home, "other", probes=(off,))
    run("add", "other")
    assert run("verify", "other", code=2)["state"] == "rejected"
    event = run("show", "other")["events"][-1]
    assert "off by up to 0.5" in event["reason"]
    assert (event["figures"]["probe_max_abs_diff"], event["figures"]["tolerance"]) == (0.5, 0.001)
    assert run("add", "other")["state"] == "rejected"
    assert main(["policy", "add", "other"]) == 0
    assert "it was rejected: " in capsys.readouterr().err
    assert run("add", "other", "--again")["state"] == "candidate"


def test_without_probes_or_an_engine_a_policy_stays_a_candidate(
    run: Run, home: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sealed(home, "plain")
    sealed(home, "adapter", kind="lora", probes=(PROBE,))
    sealed(home, "probed", probes=(PROBE,))
    for name, why in {
        "plain": "it has no probes",
        "adapter": "an adapter's probes are replayed beside its base",
    }.items():
        run("add", name)
        told = run("verify", name)
        assert told["state"] == "candidate"
        assert why in told["told"]
    run("add", "probed")
    assert "no engine was asked" in run("verify", "probed", "--files-only")["told"]
    assert opened == []
    assert main(["policy", "promote", "plain"]) == 1
    assert "has not been verified" in capsys.readouterr().err


def test_a_folder_that_is_gone_or_another_now_is_told(
    run: Run, home: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sealed(home, "first", probes=(PROBE,))
    run("add", "first")
    shutil.move(folder, home / "aside")
    assert main(["policy", "verify", "first"]) == 2
    assert "the folder of 'first' is gone" in capsys.readouterr().err
    assert run("show", "first")["state"] == "candidate"
    sealed(home, "first", content="other", probes=(PROBE,))
    assert run("verify", "first", code=2)["state"] == "rejected"
    assert "holds another policy now" in run("show", "first")["events"][-1]["reason"]


def test_what_is_bad_input_is_exit_2(
    run: Run, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = sealed(tmp_path / "outside", "far")
    for args, message in {
        ("show", "nobody"): "no policy 'nobody'",
        ("verify", "nobody"): "no policy 'nobody'",
        ("promote", "nobody"): "no policy 'nobody'",
        ("add", "nobody"): "no policy 'nobody'",
        ("add", str(outside)): "lies outside",
        ("list", "--state", "great"): "no state 'great'",
    }.items():
        assert main(["policy", *args]) == 2, args
        assert message in capsys.readouterr().err
    sealed(home, "made")
    assert main(["policy", "show", "made"]) == 2
    assert "cai policy add made" in capsys.readouterr().err


def test_a_root_beside_home_is_named_by_a_variable(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = sealed(tmp_path / "outside", "far")
    monkeypatch.setenv("CAI_POLICY_ROOTS", json.dumps([str(tmp_path / "outside")]))
    assert run("add", str(outside))["folder"] == str(outside)


def test_the_list_is_a_table_and_an_empty_one_names_the_next_command(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "list"]) == 0
    assert "cai policy add NAME" in capsys.readouterr().err
    sealed(home, "first")
    run("add", "first")
    assert main(["policy", "list", "--state", "candidate"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == [
        *("first", "candidate", "full", "sft"),
    ]


def test_the_registry_alone_says_that_no_server_was_told(
    run: Run, home: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sealed(home, "first", probes=(PROBE,))
    run("add", "first")
    run("verify", "first")
    assert main(["policy", "promote", "first"]) == 0
    told = capsys.readouterr()
    assert "first is live in the registry" in told.out
    assert "a running server was not told" in told.err


def test_a_policy_is_shown_with_the_results_that_measured_its_weights(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the digest: the name may have stood for other weights then, and weights go by many."""
    sealed(home, "one")
    digest = run("add", "one")["digest"]
    rate = {"rate": 0.25, "n": 8, "ci": [0.1, 0.5]}
    measured = {"policies": {"vllm:here": {"rate": rate}, "one": {"rate": {**rate, "rate": 0.75}}}}
    values = {"created_at": "2030-01-01T00:00:00+00:00", "kind": "policy"}
    refs = (
        PolicyRef(ref="vllm:here", digest=digest, model="m"),
        PolicyRef(ref="one", digest="sha256:other", model="m"),
    )
    figures = {"suites": {"honesty": measured}}
    save(home, EvalResult(id="mine", policies=refs, figures=figures, **values))
    save(home, EvalResult(id="other", policies=refs[1:], figures=figures, **values))
    reward = JudgeRef(address="one", model="m", digest=digest)
    save(home, EvalResult(id="judged", judge=reward, **{**values, "kind": "judge"}))
    save(home, EvalResult(id="by", policies=refs[1:], judge=reward, figures=figures, **values))
    told = {one["id"]: one for one in run("show", "one")["evaluations"]}
    assert set(told) == {"mine", "judged"}
    assert told["mine"]["rates"] == {"honesty": rate}
    assert main(["policy", "show", "one"]) == 0
    assert "mine  policy: honesty 25.0%" in capsys.readouterr().out
