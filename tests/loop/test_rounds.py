"""A loop's rounds: their order, what each is given, what a kill costs, and who is turned down."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.loop.scripted import BAD, BASE, GOOD, Killed, Place, Server

ROUND = ["dataset", "feedback", "sft", "dpo"]
FIRST = ["dataset", "feedback", "gate", "sft", "dpo"]


def test_each_round_trains_on_what_the_policy_of_the_round_before_made(place: Place) -> None:
    assert place.loop("-c", "helpful-honest@1", "--set", "dpo.epochs=3", rounds=2) == 0
    server = place.server
    assert server.kinds() == ["dataset", *FIRST, "dataset", *ROUND]
    one, two, three, four = (body["params"] for body in server.bodies("dataset"))
    assert (one["constitution"], two["constitution"]) == ("harmless@2", "helpful-honest@1")
    assert {one["prompts"], four["prompts"]} == {"file-1.txt"}
    assert (one["seed"], three["seed"]) == (0, 1)
    assert server.num_uploads == 1
    sft, dpo, later_sft, later_dpo = (body["params"] for body in server.bodies("train"))
    assert (sft["policy"], sft["data"]) == ("sandbox", [one["run"], two["run"]])
    assert (dpo["policy"], dpo["data"]) == (sft["name"], sft["data"])
    assert dpo["settings"] == {"epochs": 3}
    assert later_sft["policy"] == dpo["name"]
    assert later_sft["data"] == [three["run"], four["run"]]
    assert server.live == later_dpo["name"]
    first, second = place.notes().rounds
    assert (first.before, first.after) == (BASE, GOOD)
    assert (second.before, second.started_from) == (GOOD, dpo["name"])
    assert (first.num_pairs, first.outcome, second.outcome) == (200, "live", "live")
    assert server.bodies("train")[1]["auto_promote"]["over_refusal"] == 0.02
    assert "auto_promote" not in server.bodies("train")[0]


def test_the_gate_is_placed_as_the_trainings_are(place: Place) -> None:
    assert place.loop("--set", "placement=shared") == 0
    jobs = [*place.server.bodies("gate"), *place.server.bodies("train")]
    assert [body["params"]["placement"] for body in jobs] == ["shared"] * 3


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_kill_at_any_request_loses_nothing_and_submits_nothing_twice(
    place: Place, is_answered: bool
) -> None:
    """Before each request in turn the process dies, or after it, the answer unheard."""

    def die(number: int) -> None:
        if number == kill_at:
            raise Killed

    kill_at = -1
    for kill_at in range(100):
        place.server = Server()
        setattr(place.server, "after" if is_answered else "before", die)
        try:
            code = place.loop("--fresh", rounds=2)
        except Killed:
            assert place.loop(rounds=2) == 0
        else:
            assert code == 0
            break
        assert place.server.kinds() == [*FIRST, *ROUND], kill_at
        assert [one.outcome for one in place.notes().rounds] == ["live", "live"]
        assert place.server.live == place.notes().rounds[-1].policy
    assert kill_at > 25


def test_what_is_done_is_not_asked_for_again_and_more_rounds_go_on(place: Place) -> None:
    assert place.loop() == 0
    num = place.server.num_requests
    assert place.loop() == 0
    assert place.server.num_requests == num
    assert place.loop(rounds=2) == 0
    assert place.server.kinds() == [*FIRST, *ROUND]
    assert place.loop("--fresh") == 0
    assert len(place.server.bodies("dataset")) == 3
    names = [body["params"]["run"] for body in place.server.bodies("dataset")]
    assert len(set(names)) == 3


def test_a_policy_that_fails_the_gate_ends_the_loop_with_its_figures(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.server = Server(BAD, GOOD)
    assert place.loop(rounds=2) == 1
    told = capsys.readouterr()
    assert "is rejected, from sandbox" in told.out
    assert "30.0% (29.0% to 31.0%) of 400" in told.out
    assert "was rejected: harmful is 0.300 of 400" in told.err
    assert (place.server.live, place.server.kinds()) == ("sandbox", FIRST)
    assert place.loop(rounds=2) == 1
    assert place.server.kinds() == FIRST
    assert place.loop("--set", "on_rejected=continue", rounds=2) == 0
    second = place.notes().rounds[1]
    assert (second.started_from, second.before, second.outcome) == ("sandbox", BASE, "live")
    assert place.server.kinds() == [*FIRST, *ROUND]


def test_what_people_said_joins_the_next_round_once_it_was_learnt(place: Place) -> None:
    """Places 0 to 5 are read by a round that is rejected, and so once more by the next."""
    place.server = Server(BAD, GOOD)
    place.server.num_human = 3
    assert place.loop("--set", "on_rejected=continue", rounds=3) == 0
    asked = [body["params"] for body in place.server.bodies("feedback")]
    assert [one["after"] for one in asked] == [0, 0, 5]
    sft, dpo, *_ = (body["params"] for body in place.server.bodies("train"))
    assert dpo["data"] == [*sft["data"], asked[0]["run"]]
    assert place.notes().rounds[0].num_human == 3


def test_a_job_that_failed_is_submitted_anew_by_the_same_command(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    server = place.server

    def once(job: dict[str, Any]) -> dict[str, Any] | None:
        is_first = job["body"]["params"].get("method") == "sft" and len(server.jobs) == 4
        return {"state": "failed", "error": "no room on the disk"} if is_first else None

    server.fail = once
    assert place.loop() == 1
    assert "round 1, sft: the job 'job-4' failed: no room on the disk" in capsys.readouterr().err
    assert place.loop() == 0
    first, second, _ = (body["params"] for body in server.bodies("train"))
    assert first == second  # so that it goes on from its checkpoint
    assert server.kinds() == [*FIRST[:3], "sft", "sft", "dpo"]


def test_a_policy_that_was_made_by_a_job_that_failed_later_is_made_under_another_name(
    place: Place,
) -> None:
    server = place.server

    def once(job: dict[str, Any]) -> dict[str, Any] | None:
        name = job["body"]["params"].get("name", "")
        failed = {"state": "failed", "error": "the gate died", "result": {"policy": name}}
        return failed if name.endswith("-dpo") else None

    server.fail = once
    assert (place.loop(), place.loop()) == (1, 0)
    names = [body["params"]["name"] for body in server.bodies("train")]
    assert names[2] == f"{names[1]}-2" == server.live


def test_a_worker_that_knows_no_server_leaves_the_promotion_to_the_loop(place: Place) -> None:
    place.server.promotes = False
    assert place.loop() == 0
    assert place.server.live == place.notes().rounds[0].policy != "sandbox"


def test_a_policy_that_the_engine_does_not_recognise_is_rejected(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    server = place.server

    def fails_its_probes(job: dict[str, Any]) -> dict[str, Any] | None:
        body = job["body"]
        if "auto_promote" not in body:
            return None
        name = body["params"]["name"]
        server.states[name] = "rejected"
        gate = {"passed": True, "figures": GOOD, "reasons": []}
        result = {"policy": name, "gate": gate, "promoted": False}
        return {"state": "failed", "error": "not promoted: its probes differ", "result": result}

    server.fail = fails_its_probes
    assert place.loop() == 1
    assert "was rejected: not promoted: its probes differ" in capsys.readouterr().err
    assert place.notes().rounds[0].outcome == "rejected"


def test_without_a_gate_nothing_is_measured_and_the_loop_promotes(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.loop("--set", "gate=false", "--set", "feedback=false") == 0
    assert place.server.kinds() == ["dataset", "sft", "dpo"]
    assert place.server.live != "sandbox"
    assert "harmful" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "stages"), [("sft", ["sft"]), ("ppo", ["sft", "reward", "ppo"])]
)
def test_a_method_is_its_trainings_in_order(place: Place, method: str, stages: list[str]) -> None:
    place.server.num_human = 1
    assert place.loop("--set", f"method={method}") == 0
    bodies = place.server.bodies("train")
    assert [body["params"]["method"] for body in bodies] == stages
    assert [bool(body.get("auto_promote")) for body in bodies[-2:]][-1]
    assert ("feedback" in place.server.kinds()) is (method == "ppo")
    if method == "ppo":
        sft, reward, ppo = (body["params"] for body in bodies)
        assert (ppo["policy"], ppo["reward"]) == (sft["name"], reward["name"])
        assert (len(sft["data"]), len(reward["data"]), len(ppo["data"])) == (1, 2, 1)


def test_the_policy_to_begin_from_is_made_live_first(place: Place) -> None:
    assert place.loop("--policy", "mine") == 0
    assert place.server.bodies("train")[0]["params"]["policy"] == "mine"
    assert place.server.states["sandbox"] == "retired"


def test_a_server_that_restarts_meanwhile_is_waited_for(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(number: int) -> None:
        if 4 <= number < 7:
            raise httpx2.ConnectError("refused")

    place.server.before = away
    assert place.loop() == 0
    assert capsys.readouterr().err.count("waiting: ") == 1


def test_a_loop_is_run_by_one_process_at_a_time(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = []

    def again(number: int) -> None:
        if number == 3:
            codes.append(place.loop())

    place.server.before = again
    assert place.loop() == 0
    assert codes == [1]
    assert "another process runs this loop" in capsys.readouterr().err


def test_another_server_knows_nothing_of_the_loop(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(number: int) -> None:
        if number == 5:
            raise Killed

    place.server.before = die
    with pytest.raises(Killed):
        place.loop()
    place.server = Server()
    assert place.loop() == 2
    assert "start over with --fresh" in capsys.readouterr().err


def test_the_state_says_which_settings_it_is_of(place: Place) -> None:
    assert place.loop() == 0
    assert place.loop("--set", "dpo.epochs=1") == 0
    folders = list((place.folder / "var" / "loops").iterdir())
    assert len(folders) == 2
    settled = json.loads((folders[0] / "state.json").read_text())["settled"]
    assert settled["prompts"].startswith("sha256:")
