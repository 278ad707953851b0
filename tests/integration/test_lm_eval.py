"""The evaluation harness as it is, against a server of ours: the log-probs that it sums are right.

The engine is scripted with a tokenizer of its own, so the score is known; the harness runs where it
is installed: beside this program, on the path, or where LM_EVAL_PROGRAM says.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cai.cli.main import main
from cai.engine.open import SANDBOX_MODEL
from cai.engine.scripted import ScriptedEngine
from cai.files import read_jsonl
from cai.types import Completion, Generation, Prompt, Sampling, TokenLogprob, TokenPrompt, Usage
from tests.server.helpers import make_app, served

TASKS = Path(__file__).parents[1] / "evaluate" / "tasks"
PROGRAM = os.environ.get("LM_EVAL_PROGRAM") or shutil.which("lm_eval")

pytestmark = pytest.mark.skipif(
    PROGRAM is None and importlib.util.find_spec("lm_eval") is None,
    reason="lm_eval is not installed; pip install 'cai-service[bench]', or set LM_EVAL_PROGRAM",
)


class Ids(ScriptedEngine):
    """Log-probs of token ids: the larger the id, the less likely; whatever stands before it."""

    def __init__(self) -> None:
        super().__init__(lambda _prompt, _sampling: "x", model="ids", max_context=256)
        self.asked: Counter[tuple[int, ...]] = Counter()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        said = Completion("x", "length", (0,), (_token(0),))
        return Generation((said,) * sampling.n, Usage(1, 1), "ids")

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        assert isinstance(prompt, TokenPrompt)
        self.asked[prompt.ids] += 1
        return tuple(_token(id_) for id_ in prompt.ids[1:])


def _token(id_: int) -> TokenLogprob:
    return TokenLogprob(id_, f"<{id_}>", -id_ / 1000, ((id_, f"<{id_}>", -id_ / 1000),))


async def test_the_harness_scores_the_tiny_task_as_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    engine = Ids()
    argv = ["eval", "bench", "tiny_facts", "--include-path", str(local_tasks(tmp_path))]
    argv += ["--tokenizer", str(SANDBOX_MODEL), "--json"]
    argv += ["--lm-eval", PROGRAM] if PROGRAM is not None else []
    async with served(make_app(tmp_path, engine)) as (url, _):
        assert await asyncio.to_thread(in_thread, [*argv, "--url", url]) == 0
    told = json.loads(capsys.readouterr().out)
    found = told["figures"]["tasks"]["tiny_facts"]["acc,none"]
    right, num = by_hand()
    assert (found["rate"], found["n"]) == (round(right / num, 6), num)
    assert sum(engine.asked.values()) >= 4 * num


def in_thread(argv: list[str]) -> int:
    """In a thread, where no handler of a signal can be set: the command's is for the main one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signal.signal", lambda *_: None)
        return main(argv)


def local_tasks(folder: Path) -> Path:
    """The tiny task, with the place of its data written into it."""
    copy = folder / "tasks"
    shutil.copytree(TASKS, copy)
    task = copy / "tiny_facts" / "tiny_facts.yaml"
    task.write_text(task.read_text().replace("DATA", str(task.parent)))
    return copy


def by_hand() -> tuple[int, int]:
    """Items whose right choice has the smallest ids, and all items."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(SANDBOX_MODEL / "tokenizer.json"))
    items = list(read_jsonl(TASKS / "tiny_facts" / "items.jsonl"))
    right = 0
    for item in items:
        context = tokenizer.encode(item["question"], add_special_tokens=False).ids
        costs = []
        for choice in item["choices"]:
            ids = tokenizer.encode(f"{item['question']} {choice}", add_special_tokens=False).ids
            assert ids[: len(context)] == context
            costs.append(sum(ids[len(context) :]))
        right += costs.index(min(costs)) == item["answer"]
    return right, len(items)
