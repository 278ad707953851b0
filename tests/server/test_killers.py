"""The table of killers over the scripted engine: a clear refusal each, and the next answered."""

from __future__ import annotations

import json
import time

import httpx2
import pytest

from tests.server.helpers import chat_body
from tests.server.killers import HARMLESS, KILLERS, Case


async def send(client: httpx2.AsyncClient, case: Case) -> httpx2.Response:
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    headers = {"content-type": "application/json"}
    return await client.post(case.path, content=content, headers=headers)


@pytest.mark.parametrize("case", KILLERS, ids=lambda case: case.name)
async def test_killer_is_refused_with_an_envelope(client: httpx2.AsyncClient, case: Case) -> None:
    started = time.perf_counter()
    response = await send(client, case)
    assert response.status_code in case.statuses, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 600
    assert time.perf_counter() - started < 20.0  # it neither hangs nor is worked on
    assert (await client.post("/v1/chat/completions", json=chat_body())).status_code == 200


@pytest.mark.parametrize("case", HARMLESS, ids=lambda case: case.name)
async def test_harmless_variant_is_answered(client: httpx2.AsyncClient, case: Case) -> None:
    response = await send(client, case)
    assert response.status_code in case.statuses, response.text


def test_the_table_is_long_and_names_are_unique() -> None:
    names = [case.name for case in (*KILLERS, *HARMLESS)]
    assert len(set(names)) == len(names)
    assert len(KILLERS) >= 40
