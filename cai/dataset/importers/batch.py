"""OpenAI's Batch files: answers joined to their requests by `custom_id`, in whatever order.

The join is by id alone, since the order of the output is not promised. Start from `join_batch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cai.dataset.conversations import UnusableRow, check_text, read_messages
from cai.dataset.importers.records import Record, Skipped, iter_records
from cai.types import Conversation


class BatchAnswer(NamedTuple):
    """One request with all its answers (`n` may be above 1), and the model that gave them."""

    custom_id: str
    prompt: Conversation
    answers: tuple[str, ...]
    model: str | None


def join_batch(requests: Path, output: Path) -> Iterator[BatchAnswer | Skipped]:
    """Every line of the output with its request's prompt; then the requests without an answer.

    Prompts are held until they are answered. Lines are those of `output`, and of `requests` for
    `no-answer` and for requests that cannot be read.
    """
    prompts: dict[str, tuple[int, Conversation]] = {}
    for record in iter_records(requests):
        try:
            custom_id, prompt = _request(record)
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)
            continue
        if custom_id in prompts:
            yield Skipped(record.line, "repeated-id", f"'{custom_id}' names an earlier request too")
            continue
        prompts[custom_id] = (record.line, prompt)
    yield from _answers(prompts, output)
    for custom_id, (line, _) in prompts.items():
        yield Skipped(line, "no-answer", f"no line of the output has the custom_id '{custom_id}'")


def _answers(
    prompts: dict[str, tuple[int, Conversation]], output: Path
) -> Iterator[BatchAnswer | Skipped]:
    for record in iter_records(output):
        try:
            value = _object(record)
            custom_id = value.get("custom_id")
            if not isinstance(custom_id, str) or custom_id not in prompts:
                raise UnusableRow("unknown-id", "'custom_id' names no open request")
            _, prompt = prompts.pop(custom_id)
            texts, model = _response(value)
            yield BatchAnswer(custom_id, prompt, texts, model)
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)


def _request(record: Record | Skipped) -> tuple[str, Conversation]:
    value = _object(record)
    custom_id, body = value.get("custom_id"), value.get("body")
    if not isinstance(custom_id, str):
        raise UnusableRow("no-id", "'custom_id' should be text")
    if not isinstance(body, dict) or "messages" not in body:
        raise UnusableRow("no-prompt", "'body.messages' is missing")
    return custom_id, read_messages(body["messages"], "body.messages")


def _response(value: dict[str, Any]) -> tuple[tuple[str, ...], str | None]:
    response = value.get("response")
    if value.get("error") or not isinstance(response, dict):
        raise UnusableRow("failed", "the request failed: 'error' is set or 'response' is missing")
    if response.get("status_code") != 200:
        raise UnusableRow("failed", f"the request was answered with {response.get('status_code')}")
    body = response.get("body")
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(choices, list) or not choices:
        raise UnusableRow("empty-answer", "'response.body.choices' holds nothing")
    texts = []
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise UnusableRow("empty-answer", "a choice has no text")
        texts.append(message["content"])
    check_text(read_messages([{"role": "assistant", "content": text} for text in texts], "choices"))
    model = body.get("model")
    return tuple(texts), model if isinstance(model, str) else None


def _object(record: Record | Skipped) -> dict[str, Any]:
    if isinstance(record, Skipped):
        raise UnusableRow(record.reason, record.detail)
    if not isinstance(record.value, dict):
        raise UnusableRow("not-an-object", "expected a JSON object")
    return record.value
