"""Answers of OpenAI's Batch API, joined to their requests by id."""

from cai.dataset.importers import BatchAnswer, Skipped, join_batch
from cai.types import Message
from tests.dataset.test_importers import turns, write


def request(custom_id, text):
    body = {"model": "m", "messages": turns(text)}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def response(custom_id, *texts, status=200, error=None):
    choices = [{"message": {"role": "assistant", "content": text}} for text in texts]
    body = {"model": "m-1", "choices": choices}
    return {
        "id": "b",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": error,
    }


def test_batch_answers_join_by_id_in_any_order(tmp_path):
    requests = write(tmp_path, [request("a", "One?"), request("b", "Two?"), request("c", "Three?")])
    output = write(
        tmp_path,
        [
            response("b", "2", "two"),
            response("z", "?"),
            response("a", "1", status=500),
            response("b", "again"),
        ],
        "out.jsonl",
    )
    answered, *rest = join_batch(requests, output)
    assert answered == BatchAnswer("b", (Message("user", "Two?"),), ("2", "two"), "m-1")
    assert [(one.line, one.reason) for one in rest] == [
        (2, "unknown-id"),
        (3, "failed"),
        (4, "unknown-id"),
        (3, "no-answer"),
    ]


def test_batch_requests_that_repeat_an_id_are_named(tmp_path):
    requests = write(tmp_path, [request("a", "One?"), request("a", "Two?"), {"custom_id": "b"}])
    output = write(tmp_path, [response("a", "1")], "out.jsonl")
    items = list(join_batch(requests, output))
    assert [one.reason for one in items if isinstance(one, Skipped)] == ["repeated-id", "no-prompt"]
    assert items[-1].answers == ("1",)
