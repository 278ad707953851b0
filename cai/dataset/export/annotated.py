"""Annotated-pairs 2.0: one JSON file with every labeler's and every principle's view of a pair."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from cai.dataset.export.options import ExportReport
from cai.dataset.preferences import answer_text
from cai.errors import DataError
from cai.feedback.labels import read_pair

VERSION = "2.0"
_DEFAULT = "preference"


def write_annotated(
    rows: Iterable[Mapping[str, Any]], out: Path, *, name: str, report: ExportReport
) -> None:
    """Write the pairs one after the other; annotators, known only at the end, come last.

    Which answer stands as `a` is a hash of the row's id, so that the place gives nothing away.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            _write(file, rows, name, report)
        if not report.splits:
            raise DataError(f"{out}: nothing to export: every row was left out")
        os.replace(temporary, out)
        report.files = {"all": out.name}
    finally:
        temporary.unlink(missing_ok=True)


def _write(
    file: TextIO, rows: Iterable[Mapping[str, Any]], name: str, report: ExportReport
) -> None:
    default = short_id(_DEFAULT)
    annotators = {default: annotator_entry(_DEFAULT, "The label of the row", "unknown")}
    metadata = {
        "version": VERSION,
        "description": "Pairs of answers with the label of each row, its principles and labelers",
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dataset_name": name,
        "default_annotator": default,
    }
    file.write(f'{{"metadata": {_json(metadata)},\n"comparisons": [')
    for row in rows:
        file.write(",\n" if report.splits else "\n")
        file.write(_json(_comparison(row, default, annotators)))
        report.splits["all"] += 1
    file.write(f'\n],\n"annotators": {_json(annotators)}}}\n')


def _comparison(
    row: Mapping[str, Any], default: str, annotators: dict[str, dict[str, str]]
) -> dict[str, Any]:
    chosen = "a" if int(short_id(row["id"]), 16) % 2 == 0 else "b"
    other = "b" if chosen == "a" else "a"
    views = {default: {"pref": chosen}}
    for kind, who, p_chosen in _opinions(row):
        annotator = short_id(f"{kind} {who}")
        annotators.setdefault(annotator, annotator_entry(who, f"{kind.capitalize()} {who}", kind))
        views[annotator] = preferred(p_chosen, chosen, other)
    model = {"model": row["policy"]["id"]} if row.get("policy") else {}
    return {
        "id": row["id"],
        "prompt": prompt_text(row["prompt"]),
        f"response_{chosen}": {"text": answer_text(row["chosen"]), **model},
        f"response_{other}": {"text": answer_text(row["rejected"]), **model},
        "annotations": views,
        "metadata": {"source": row["source"], "p_chosen": row["p_chosen"]},
    }


def _opinions(row: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """(kind, name, P(chosen)) of each principle and each labeler that the row knows of."""
    found = []
    label = row.get("label") or {}
    for vote in label.get("votes", ()):
        read = read_pair(vote["order_ab"], vote["order_ba"])
        found.append(("principle", vote["principle"], read.p_a))
    if "votes" not in label:
        found += [("principle", name, row["p_chosen"]) for name in label.get("principles", ())]
    votes = row.get("votes", {})
    found += [("human", name, 1.0) for name in votes.get("chosen", ())]
    found += [("human", name, 0.0) for name in votes.get("rejected", ())]
    if row["source"] == "human" and row.get("labeler"):
        found.append(("human", row["labeler"], 1.0))
    return found


def preferred(p_chosen: float, chosen: str, other: str) -> dict[str, Any]:
    """An annotation: the side that is likelier to be better, or a tie."""
    if p_chosen == 0.5:
        return {"pref": None, "no_pref_reason": "tie"}
    return {"pref": chosen if p_chosen > 0.5 else other}


def annotator_entry(name: str, description: str, kind: str) -> dict[str, str]:
    """Who annotates; `kind` is human, ai or unknown."""
    return {"name": name, "description": description, "type": kind}


def prompt_text(prompt: list[dict[str, str]]) -> str:
    """A conversation as text; several turns in HH-RLHF's form, as the format has one string."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    speakers = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "".join(f"\n\n{speakers[one['role']]}: {one['content']}" for one in prompt)


def short_id(text: str) -> str:
    """Eight digits of a hash: how annotators are keyed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
