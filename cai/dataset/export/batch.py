"""Prompts as an OpenAI Batch request file: one line each, joined back by `custom_id`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai.dataset.export.options import ExportReport
from cai.dataset.prompts import PromptRow, Skipped
from cai.dataset.records import encode_row
from cai.errors import ConfigError, DataError
from cai.types import Sampling

MAX_REQUESTS = 50_000
URL = "/v1/chat/completions"


def export_batch(
    prompts: Iterable[PromptRow | Skipped],
    out: Path,
    *,
    model: str,
    sampling: Sampling | None = None,
) -> ExportReport:
    """Write a request for each prompt; `custom_id` is its input id.

    Raises DataError when no prompt is usable, or over 50,000 are: the API takes no more in a file.
    """
    if not out.name.endswith(".jsonl"):
        raise ConfigError(f"{out}: a batch request file ends in .jsonl", param="out")
    report = ExportReport()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            for prompt in prompts:
                if isinstance(prompt, Skipped):
                    report.left_out[prompt.reason] += 1
                    continue
                if report.splits["all"] == MAX_REQUESTS:
                    raise DataError(
                        f"{out}: over {MAX_REQUESTS:,} prompts, which a batch file cannot hold; "
                        "use --limit, or split the prompts"
                    )
                file.write(encode_row(_request(prompt, model, sampling or Sampling())))
                report.splits["all"] += 1
        if not report.splits["all"]:
            raise DataError(f"{out}: nothing to export: no prompt is usable")
        os.replace(temporary, out)
        report.files = {"all": out.name}
    finally:
        temporary.unlink(missing_ok=True)
    return report


def _request(prompt: PromptRow, model: str, sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [message.as_dict() for message in prompt.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "n": sampling.n,
    }
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    return {"custom_id": prompt.input_id, "method": "POST", "url": URL, "body": body}
