"""A side: distilabel 1.5.3 doing draft, critique, revision and both judge orders over HTTP.

Runs in an environment of its own, against vLLM's OpenAI server that the parent started. Speaks the
same line protocol as `benchmarks.sides`, which it cannot import from there. Annotations are not
put off here: distilabel reads them from the functions.
"""

import json
import sys
import time
from typing import Any

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step
from distilabel.steps.tasks import ChatGeneration


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@step(inputs=["prompt"], outputs=["messages", "started"])
def ask_draft(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = [say("user", row["prompt"])]
        row["started"] = time.time()
    yield inputs


@step(inputs=["messages", "generation", "critique_request"], outputs=["messages", "draft"])
def ask_critique(inputs: StepInput) -> Any:
    for row in inputs:
        row["draft"] = row["generation"] or ""
        row["messages"] = [
            *row["messages"],
            say("assistant", row["draft"]),
            say("user", row["critique_request"]),
        ]
    yield inputs


@step(inputs=["messages", "generation", "revision_request"], outputs=["messages"])
def ask_revision(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = [
            *row["messages"],
            say("assistant", row["generation"] or ""),
            say("user", row["revision_request"]),
        ]
    yield inputs


def compare(row: dict[str, Any], first: str, second: str) -> list[dict[str, str]]:
    text = row["compare"].replace("{first}", first).replace("{second}", second)
    return [say("user", text)]


@step(inputs=["draft", "generation", "compare"], outputs=["messages", "revision"])
def ask_first_order(inputs: StepInput) -> Any:
    for row in inputs:
        row["revision"] = row["generation"] or ""
        row["messages"] = compare(row, row["draft"], row["revision"])
    yield inputs


@step(inputs=["draft", "revision", "compare"], outputs=["messages"])
def ask_second_order(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = compare(row, row["revision"], row["draft"])
    yield inputs


@step(inputs=["generation"], outputs=["ended"])
def note_end(inputs: StepInput) -> Any:
    for row in inputs:
        row["ended"] = time.time()
    yield inputs


def build(url: str, rows: list[dict[str, Any]], max_tokens: int, batch: int) -> Pipeline:
    def chat(name: str, tokens: int, **more: Any) -> ChatGeneration:
        return ChatGeneration(
            name=name,
            llm=OpenAILLM(
                model="m",
                base_url=url,
                api_key="none",
                generation_kwargs={"max_new_tokens": tokens, "temperature": 1.0, **more},
            ),
            input_batch_size=batch,
        )

    with Pipeline(name="cai-benchmark") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=batch)
        judge = {"logprobs": True, "top_logprobs": 2}
        steps = [
            ask_draft(name="ask_draft", input_batch_size=batch),
            chat("draft", max_tokens),
            ask_critique(name="ask_critique", input_batch_size=batch),
            chat("critique", max_tokens),
            ask_revision(name="ask_revision", input_batch_size=batch),
            chat("revision", max_tokens),
            ask_first_order(name="ask_first_order", input_batch_size=batch),
            chat("first_order", 1, **judge),
            ask_second_order(name="ask_second_order", input_batch_size=batch),
            chat("second_order", 1, **judge),
            note_end(name="note_end", input_batch_size=batch),
        ]
        before: Any = load
        for one in steps:
            before = before >> one
    return pipeline


def main(url: str, rows_file: str, max_tokens: str, batch: str) -> None:
    with open(rows_file, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        done = build(url, rows, int(max_tokens), int(batch)).run(use_cache=False)["default"]
        table = done["train"]
        seconds = max(table["ended"]) - min(table["started"])
        print(json.dumps({"rows_per_s": len(table) / seconds, "rows": len(table)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
