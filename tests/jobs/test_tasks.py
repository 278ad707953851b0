"""The steps of a job, with children that are pretended: what follows which end, and how often."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cai.errors import ConflictError, EngineDeadError, EngineError, InputError
from cai.jobs import attempts as attempting
from cai.jobs.attempts import Attempts, Outcome
from cai.jobs.calls import ServerCalls
from cai.jobs.runner import Ended
from cai.jobs.spec import JobRecord, JobSpec
from cai.jobs.tasks import Tasks
from tests.jobs.helpers import Workshop, wait_until
from tests.policy.registering import sealed

Child = Callable[..., Ended]
Answer = tuple[int, dict[str, Any]]


class Server:
    """A server that notes the calls and answers as it is told, else 200."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers: dict[str, list[Answer]] = {}
        self.keys: set[str | None] = set()
        self.readiness: list[int] = []
        notes = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                notes.calls.append(" ".join([self.path, *filter(None, [body.get("job")])]))
                notes.keys.add(self.headers["authorization"])
                waiting = notes.answers.get(self.path)
                status, answer = waiting.pop(0) if waiting else (200, {})
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.send_response(notes.readiness.pop(0) if notes.readiness else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def made(self, *calls: str) -> ServerCalls:
        return ServerCalls(self.url, key="k", pause_s=0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Iterator[Workshop]:
    with Workshop(tmp_path, url=server.url, job_attempts=3, job_devices="1") as shop:
        (shop.home / "runs" / "toy").mkdir(parents=True)
        yield shop


class Work:
    """The tasks of one worker, whose children are functions that are called in turn."""

    def __init__(self, shop: Workshop, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children: list[Child] = []
        self.argv: list[tuple[str, ...]] = []
        self.devices: list[str | None] = []
        calls = server.made()
        at = Attempts(shop.jobs.store, shop.settings, "w1", server=calls, back_off_s=0.0)
        self.tasks = Tasks(shop.jobs.store, shop.jobs.place, "w1", attempts=at, server=calls)

        def run_child(job: str, argv: tuple[str, ...], env: Any, **options: Any) -> Ended:
            self.argv.append(argv)
            self.devices.append(env.get("CUDA_VISIBLE_DEVICES"))
            return self.children.pop(0)(options["log"])

        monkeypatch.setattr(attempting, "run_child", run_child)

    def whole(self, id: str) -> Outcome:
        """Every step in order, as the workflow takes them."""
        outcome = self.tasks.run(id)
        for name in outcome.get("then", ()):
            passed = name != "promote" or outcome["result"]["gate"]["passed"]
            if outcome["state"] == "done" and passed:
                outcome = getattr(self.tasks, name)(id, outcome)
        self.tasks.finish(id, outcome)
        return outcome


@pytest.fixture
def work(shop: Workshop, server: Server, monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(shop, server, monkeypatch)


def queued(shop: Workshop, *, auto_promote: Any = False, **params: Any) -> JobRecord:
    """A training job in the store, without a queue."""
    spec = JobSpec(
        kind="train",
        params={"method": "sft", "data": ["toy"], "name": "mine", **params},
        auto_promote=auto_promote,
    )
    return shop.jobs.store.submit(spec, actor="jane", enqueue=lambda *_: None)


def ends(code: int, printed: Any = None, said: str = "") -> Child:
    def child(log: Any) -> Ended:
        log.write(f"{said}\n".encode())
        return Ended(code, None, b"" if printed is None else json.dumps(printed).encode())

    return child


def trains(home: Path) -> Child:
    """A child that leaves a finished policy, as often as it is run."""

    def child(_log: Any) -> Ended:
        folder = home / "policies" / "mine"
        if not folder.exists():
            sealed(home, "mine")
        return Ended(0, None, json.dumps({"policy": str(folder), "digest": "d"}).encode())

    return child


def verdict(passed: bool) -> Child:
    reasons = [] if passed else ["harmful 0.4 is above 0.02"]
    return ends(0, {"passed": passed, "figures": {"harmful": 0.4}, "reasons": reasons})


def test_a_trained_policy_is_registered_as_a_candidate(shop: Workshop, work: Work) -> None:
    id = queued(shop).id
    work.children = [trains(shop.home)]
    work.whole(id)
    record = shop.get(id)
    assert (record.state, record.attempts) == ("succeeded", 1)
    assert record.result is not None
    assert record.result["policy"] == "mine"
    policy = shop.jobs.place.policies.get("mine")
    assert policy.state == "candidate"
    assert shop.jobs.place.policies.events("mine")[0].actor == "jane"
    assert shop.types(id) == ["submitted", "started", "registered", "succeeded"]


def test_steps_that_run_twice_have_one_effect(shop: Workshop, work: Work) -> None:
    id = queued(shop).id
    work.children = [trains(shop.home)] * 2
    first = work.tasks.run(id)
    again = work.tasks.run(id)
    assert first["result"] == again["result"]
    for _ in range(2):
        outcome = work.tasks.register(id, first)
    assert [work.tasks.finish(id, outcome) for _ in range(2)] == [True, False]
    assert len(shop.jobs.place.policies.list().records) == 1
    assert len(shop.jobs.place.policies.events("mine")) == 1
    assert shop.types(id).count("succeeded") == 1


def test_what_passes_the_gate_is_promoted_by_the_server(
    shop: Workshop, work: Work, server: Server
) -> None:
    id = queued(shop, auto_promote={"harmful": 0.02}).id
    work.children = [trains(shop.home), verdict(True)]
    work.whole(id)
    record = shop.get(id)
    assert record.result is not None
    assert (record.state, record.result["promoted"]) == ("succeeded", True)
    assert work.argv[1] == ("gate", "mine", '{"harmful": 0.02}')
    assert server.calls == ["/v1/policies/mine/promote"]
    assert server.keys == {"Bearer k"}
    assert shop.types(id)[-3:] == ["gate", "promoted", "succeeded"]


@pytest.mark.parametrize("placement", ["separate", "shared"])
def test_the_gate_is_placed_as_the_training_was(
    shop: Workshop,
    work: Work,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    placement: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    id = queued(shop, auto_promote=True, placement=placement).id
    work.children = [trains(shop.home), verdict(True)]
    work.whole(id)
    assert work.devices == (["1", "1"] if placement == "separate" else ["0", "0"])
    assert server.calls.count(f"/internal/sleep {id}") == (0 if placement == "separate" else 2)


def test_what_does_not_pass_is_rejected_with_its_figures(
    shop: Workshop, work: Work, server: Server
) -> None:
    id = queued(shop, auto_promote=True).id
    work.children = [trains(shop.home), verdict(False)]
    work.whole(id)
    record = shop.get(id)
    assert record.result is not None
    assert (record.state, record.result["promoted"]) == ("succeeded", False)
    assert server.calls == []
    assert shop.jobs.place.policies.get("mine").state == "rejected"
    event = shop.jobs.place.policies.events("mine")[-1]
    assert event.figures == {"harmful": 0.4}
    assert "harmful 0.4 is above 0.02" in event.reason


def test_a_promotion_that_the_server_refuses_fails_the_job_and_keeps_its_result(
    shop: Workshop, work: Work, server: Server
) -> None:
    error = {"error": {"message": "probes differ by 3.1"}}
    server.answers["/v1/policies/mine/promote"] = [(500, error)]
    id = queued(shop, auto_promote=True).id
    work.children = [trains(shop.home), verdict(True)]
    work.whole(id)
    record = shop.get(id)
    assert record.state == "failed"
    assert record.error is not None
    assert "probes differ by 3.1" in record.error
    assert record.result is not None
    assert record.result["policy"] == "mine"


def test_a_promotion_that_was_done_before_the_worker_died_counts(
    shop: Workshop, work: Work, server: Server
) -> None:
    id = queued(shop, auto_promote=True).id
    policies = shop.jobs.place.policies
    policies.add(sealed(shop.home, "mine"), actor="test")
    policies.verified("mine", {}, "test")
    policies.make_live("mine", "promoted", {}, "test")
    taken = {"error": {"message": "already live"}}
    server.answers["/v1/policies/mine/promote"] = [(409, taken)]
    shop.jobs.store.begin_attempt(id, "w1")
    outcome = work.tasks.promote(id, {"state": "done", "result": {"policy": "mine"}})
    assert (outcome["state"], outcome["result"]["promoted"]) == ("done", True)


def test_a_crash_is_tried_again_and_a_bad_setting_is_not(shop: Workshop, work: Work) -> None:
    crashed = queued(shop, name="a").id
    work.children = [ends(-9), ends(1, said="cai: the engine is gone"), trains(shop.home)]
    work.tasks.run(crashed)
    assert shop.get(crashed).attempts == 3
    assert shop.types(crashed).count("retrying") == 2
    bad = queued(shop, name="b").id
    work.children = [ends(2, said="cai: unknown setting 'epocs'")]
    work.whole(bad)
    record = shop.get(bad)
    assert (record.state, record.attempts) == ("failed", 1)
    assert record.error == "unknown setting 'epocs'"


def test_attempts_are_bounded_and_the_last_word_is_told(shop: Workshop, work: Work) -> None:
    id = queued(shop).id
    work.children = [ends(-9, said="out of memory")] * 3
    work.whole(id)
    assert shop.get(id).error == "given up after 3 attempts: out of memory"


@pytest.mark.parametrize("code", [1, 2])
def test_attempts_that_end_while_the_server_is_away_are_no_failures_of_the_job(
    shop: Workshop, work: Work, server: Server, code: int
) -> None:
    id = queued(shop).id
    work.children = [*[ends(code, said="cai: cannot connect")] * 5, trains(shop.home)]
    server.readiness = [503, 200] * 5  # away when the child ended, back before the next begins
    work.whole(id)
    record = shop.get(id)
    assert (record.state, record.attempts) == ("succeeded", 6)


def test_the_deaths_of_workers_are_no_failures_of_the_job_until_they_are_many(
    shop: Workshop, work: Work
) -> None:
    unlucky, deadly = queued(shop, name="a").id, queued(shop, name="b").id
    for number in range(30):
        shop.jobs.store.begin_attempt(deadly, f"w{number}")
        if number < 9:
            shop.jobs.store.begin_attempt(unlucky, f"w{number}")
    work.children = [trains(shop.home)]
    work.tasks.run(unlucky)
    assert len(work.argv) == 1
    work.whole(deadly)
    record = shop.get(deadly)
    assert record.error is not None
    assert record.error.startswith("given up after 30 attempts")
    assert len(work.argv) == 1


def test_a_job_cancelled_in_the_queue_never_begins(shop: Workshop, work: Work) -> None:
    id = queued(shop).id
    shop.jobs.store.cancel(id, actor="jane")
    work.whole(id)
    assert (shop.get(id).state, work.argv) == ("cancelled", [])
    assert shop.types(id) == ["submitted", "cancelled"]


def test_a_job_cancelled_after_its_training_is_not_registered(shop: Workshop, work: Work) -> None:
    id = queued(shop).id
    work.children = [trains(shop.home)]
    outcome = work.tasks.run(id)
    shop.jobs.store.cancel(id, actor="jane")
    outcome = work.tasks.register(id, outcome)
    work.tasks.finish(id, outcome)
    assert shop.get(id).state == "cancelled"
    assert shop.jobs.place.policies.list().records == ()
    with pytest.raises(ConflictError, match="is cancelled already"):
        shop.jobs.store.cancel(id, actor="jane")


def test_a_shared_device_is_freed_for_the_child_and_given_back_however_it_ends(
    shop: Workshop, work: Work, server: Server
) -> None:
    id = queued(shop, placement="shared").id

    def child(_log: Any) -> Ended:
        server.calls.append("child")
        return Ended(2, None, b"")

    work.children = [child]
    server.answers["/internal/sleep"] = [(503, {}), (200, {})]  # it was restarting
    work.whole(id)
    sleep, wake = f"/internal/sleep {id}", f"/internal/wake {id}"
    assert server.calls == [sleep, sleep, "child", wake, wake]  # once more when the job is over
    assert shop.get(id).state == "failed"


BUSY: Answer = (409, {"error": {"message": "a reload is at work"}})


def test_a_job_waits_for_its_turn_while_the_engine_may_not_sleep_or_is_away(
    shop: Workshop, work: Work, server: Server
) -> None:
    """A long stream, a reload, another job, or a restart that takes longer than a few tries."""
    id = queued(shop, placement="shared").id
    server.answers["/internal/sleep"] = [BUSY, BUSY, *[(503, {})] * 8]
    work.children = [trains(shop.home)]
    work.whole(id)
    assert server.calls.count(f"/internal/sleep {id}") == 11
    record = shop.get(id)
    assert (record.state, record.attempts) == ("succeeded", 1)
    waits = [event.data["error"] for event in shop.events(id) if event.type == "waiting"]
    assert len(waits) == 1
    assert waits[0].endswith("a reload is at work")


def test_a_job_that_waits_for_its_turn_can_be_cancelled(
    shop: Workshop, work: Work, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempting, "_ASK_EVERY_S", 0.0)
    id = queued(shop, placement="shared").id
    server.answers["/internal/sleep"] = [BUSY] * 1000
    waiting = threading.Thread(target=work.whole, args=(id,))
    waiting.start()
    wait_until(lambda: "waiting" in shop.types(id))
    assert shop.get(id).progress.stage == "waiting"
    shop.jobs.store.cancel(id, actor="jane")
    waiting.join(10)
    assert (shop.get(id).state, work.argv) == ("cancelled", [])


def test_an_engine_that_cannot_sleep_fails_the_job(
    shop: Workshop, work: Work, server: Server
) -> None:
    id = queued(shop, placement="shared").id
    told = {"error": {"message": "no device to give away"}}
    server.answers["/internal/sleep"] = [(400, told)]
    work.whole(id)
    assert work.argv == []
    error = shop.get(id).error
    assert error is not None
    assert "no device to give away" in error


def test_a_promotion_waits_for_a_server_that_is_busy_or_away(
    shop: Workshop, work: Work, server: Server
) -> None:
    server.answers["/v1/policies/mine/promote"] = [BUSY, *[(503, {})] * 8, BUSY]
    id = queued(shop, auto_promote=True).id
    work.children = [trains(shop.home), verdict(True)]
    work.whole(id)
    record = shop.get(id)
    assert record.result is not None
    assert (record.state, record.result["promoted"]) == ("succeeded", True)
    assert len(server.calls) == 11


def test_a_no_to_the_policy_itself_is_not_waited_for(
    shop: Workshop, work: Work, server: Server
) -> None:
    id = queued(shop, auto_promote=True).id
    policies = shop.jobs.place.policies
    policies.add(sealed(shop.home, "mine"), actor="test")
    policies.reject("mine", "by hand", {}, "test")
    server.answers["/v1/policies/mine/promote"] = [BUSY]
    shop.jobs.store.begin_attempt(id, "w1")
    outcome = work.tasks.promote(id, {"state": "done", "result": {"policy": "mine"}})
    assert (outcome["state"], len(server.calls)) == ("failed", 1)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, InputError), (409, ConflictError), (500, EngineError)]
)
def test_the_servers_no_is_an_error_with_its_words(
    server: Server, status: int, kind: type[Exception]
) -> None:
    told = {"error": {"message": "because"}}
    server.answers["/internal/wake"] = [(status, told)]
    with pytest.raises(kind, match="because"):
        server.made().wake("j")


def test_a_server_that_is_away_is_asked_a_few_times(server: Server) -> None:
    server.answers["/internal/wake"] = [(503, {})] * 6
    with pytest.raises(EngineDeadError):
        server.made().wake("j")
    assert len(server.calls) == 6
