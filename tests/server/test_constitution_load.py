"""A server under load while a draft is saved 100 times, every tenth time broken.

Every answer is a 200 whose texts are those of one edit, the one whose digest it names.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx2

from cai.constitution.live import LiveStore
from cai.constitution.schema import Constitution
from cai.engine.scripted import ScriptedEngine, last_text
from cai.settings import Settings
from cai.types import Prompt, Sampling
from cai.yamlguard import load_yaml, validate
from server.app import create_app
from tests.server.helpers import served, until

NUM_SAVES = 100
PRINCIPLES = 40  # about 8 kB: more than a file's buffer, so that it is written in pieces

PRINCIPLE = """\
  - id: p{at}
    critique: Point out what is unkind, edit {edit}. [critique]
    revision: Write it kindly, edit {edit}. [revision]
    compare: Which is kinder, edit {edit}?
"""


def text_of(edit: int) -> str:
    """The draft as an edit leaves it: every text of it carries the edit's number."""
    head = f"name: toy\nversion: draft\ntitle: Edit {edit}\nprinciples:\n"
    return head + "".join(PRINCIPLE.format(at=at, edit=edit) for at in range(PRINCIPLES))


def echo(prompt: Prompt, _sampling: Sampling) -> str:
    """Says the number of the edit that asks; a draft has none."""
    found = re.search(r"edit (\d+)\. \[(\w+)", last_text(prompt))
    if found is None:
        return "A draft."
    return f"It is unkind by {found[1]}." if found[2] == "critique" else f"Be well, {found[1]}."


def save_often(path: Path, stop: list[bool]) -> None:
    """100 saves in place, as a simple editor does it; 10 are cut off or misspelt."""
    for save in range(1, NUM_SAVES + 1):
        text = text_of(save)
        if save % 10 == 0:
            cut = text[: len(text) // 2] + "\n  - id: ["
            text = text.replace("critique:", "critque:") if save % 20 else cut
        with path.open("w") as file:
            half = len(text) // 2
            file.write(text[:half])
            file.flush()
            time.sleep(0.001)
            file.write(text[half:])
        time.sleep(0.3 if save % 10 in (0, 3) else 0.005)
    stop.append(True)


async def ask_until(url: str, stop: list[bool], answers: list[Any]) -> None:
    request = {
        "messages": [{"role": "user", "content": "Hello"}],
        **{"constitution": "toy@draft", "revisions": 2},
    }
    async with httpx2.AsyncClient(base_url=url) as client:
        while not stop:
            answers.append(await client.post("/v1/revisions", json=request))


async def test_no_request_sees_a_broken_or_mixed_constitution(tmp_path: Path) -> None:
    path = tmp_path / "toy" / "draft.yaml"
    path.parent.mkdir()
    path.write_text(text_of(0))
    digests = {
        validate(Constitution, load_yaml(text_of(edit))).digest: edit
        for edit in range(NUM_SAVES + 1)
    }
    store = LiveStore(tmp_path)
    app = create_app(ScriptedEngine(echo), store, Settings(home=tmp_path / "home"))
    stop: list[bool] = []
    answers: list[httpx2.Response] = []
    async with served(app) as (url, _):
        await until(lambda: bool(store._files))  # from here on there is a last good one
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(save_often, path, stop))
            for _ in range(8):
                group.create_task(ask_until(url, stop, answers))
        path.write_text(text_of(0))
        await until(lambda: store.get("toy@draft").title == "Edit 0")
    seen = {check(answer, digests) for answer in answers}
    assert len(answers) > NUM_SAVES
    assert len(seen) > 5, "edits are picked up while the server runs"
    assert not [edit for edit in seen if edit and edit % 10 == 0]


def check(answer: httpx2.Response, digests: dict[str, int]) -> int:
    """The edit that an answer is wholly of."""
    assert answer.status_code == 200, answer.text
    edit = digests[answer.headers["x-cai-constitution-digest"]]
    for step in answer.json()["steps"]:
        assert step["critique"] == f"It is unkind by {edit}."
        assert step["revision"] == f"Be well, {edit}."
    return edit


async def test_edits_are_told_by_the_log_without_a_request(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "toy" / "draft.yaml"
    path.parent.mkdir()
    path.write_text(text_of(0))
    caplog.set_level("INFO", logger="cai.constitution.live")
    store = LiveStore(tmp_path)
    app = create_app(ScriptedEngine(echo), store, Settings(home=tmp_path / "home"))

    def told(words: str) -> bool:
        return any(words in one.getMessage() for one in caplog.records)

    async with served(app):
        await until(lambda: bool(store._files))
        await asyncio.sleep(0.3)  # until the watch has begun
        path.write_text(text_of(1))
        await until(lambda: told("toy@draft: edit taken"))
        path.write_text("a: [\n")
        await until(lambda: told("toy@draft: edit not taken"))
        assert store.get("toy@draft").title == "Edit 1"
