"""One preference row in the shape of each foreign format. Pure functions, no files.

Each returns (split kind, record) pairs; a row that a format cannot hold raises `LeftOut`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cai.constitution.schema import Constitution
from cai.critique.prompts import CRITIQUE, REVISION
from cai.dataset.export.options import ExportOptions
from cai.dataset.preferences import answer_text
from cai.feedback.labels import logit
from cai.files import canonical_json

Row = Mapping[str, Any]
Records = list[tuple[str, dict[str, Any]]]
Shape = Callable[[Row, ExportOptions, Constitution | None], Records]

PREFS, SFT, GEN, ALL = "prefs", "sft", "gen", ""


class LeftOut(Exception):
    """A row that the format cannot hold; the message is the reason, in kebab-case."""


def trl(row: Row, options: ExportOptions, _constitution: Constitution | None) -> Records:
    """TRL's explicit conversational preference: `prompt`, `chosen`, `rejected` and no more."""
    record = {name: row[name] for name in ("prompt", "chosen", "rejected")}
    if options.margin:
        record["margin"] = logit(row["p_chosen"])
    return [(ALL, record | _extra(row, options))]


def trl_sft(row: Row, _options: ExportOptions, _constitution: Constitution | None) -> Records:
    """TRL's `messages`: the prompt and the answer to learn."""
    return [(ALL, {"messages": [*row["prompt"], *row["chosen"]]})]


def trl_unpaired(row: Row, options: ExportOptions, _constitution: Constitution | None) -> Records:
    """TRL's unpaired form, for KTO: each answer by itself, with whether it was the better one."""
    extra = _extra(row, options)
    return [
        (ALL, {"prompt": row["prompt"], "completion": row[name], "label": label} | extra)
        for name, label in (("chosen", True), ("rejected", False))
    ]


def ultrafeedback(row: Row, _options: ExportOptions, _constitution: Constitution | None) -> Records:
    """UltraFeedback-binarized; the scores are ten times the probability of each answer."""
    chosen, rejected = [*row["prompt"], *row["chosen"]], [*row["prompt"], *row["rejected"]]
    record = {
        "prompt": row["prompt"][-1]["content"],
        "prompt_id": row["input_id"],
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
        "score_chosen": 10.0 * row["p_chosen"],
        "score_rejected": 10.0 * (1 - row["p_chosen"]),
    }
    return [(kind, record) for kind in (PREFS, SFT, GEN)]


def hf_cai(row: Row, _options: ExportOptions, constitution: Constitution | None) -> Records:
    """The hub's cai-conversation: the pair with the last step that revised an answer.

    Raises LeftOut for a row that no revision led to.
    """
    draft, step = _last_revision(row)
    asked_critique, asked_revision = _requests(step["principle"], constitution)
    chosen, rejected = [*row["prompt"], *row["chosen"]], [*row["prompt"], *row["rejected"]]
    record = {
        "init_prompt": row["prompt"][-1]["content"],
        "init_response": draft,
        "critic_prompt": asked_critique,
        "critic_response": step["critique"],
        "revision_prompt": asked_revision,
        "revision_response": step["revision"],
        "prompt": row["prompt"][-1]["content"],
        "messages": chosen,
        "chosen": chosen,
        "rejected": rejected,
    }
    return [(kind, record) for kind in (PREFS, SFT)]


def ours(row: Row, _options: ExportOptions, _constitution: Constitution | None) -> Records:
    """The row as it stands in `rows.jsonl`."""
    return [(ALL, dict(row))]


def ours_in_columns(
    row: Row, _options: ExportOptions, _constitution: Constitution | None
) -> Records:
    """The row for a table with fixed columns: what not every row has is JSON text in `details`."""
    record = {name: row[name] for name in _COLUMNS}
    rest = {name: value for name, value in row.items() if name not in _COLUMNS}
    return [(ALL, _floats(record) | {"details": canonical_json(rest)})]


_COLUMNS = (
    *("format", "id", "input_id", "prompt", "chosen", "rejected"),
    *("p_chosen", "source", "weight"),
)


def _extra(row: Row, options: ExportOptions) -> dict[str, Any]:
    return _floats({name: row[name] for name in options.extra})


def _floats(record: dict[str, Any]) -> dict[str, Any]:
    """Numbers that may be written without a point, as floats: a column has one type."""
    for name in ("p_chosen", "weight"):
        if name in record:
            record[name] = float(record[name])
    return record


def _last_revision(row: Row) -> tuple[str, Mapping[str, Any]]:
    transcript = row.get("transcript")
    if not transcript:
        raise LeftOut("no-transcript")
    answer, found = transcript["draft"], None
    for step in transcript["steps"]:
        if step.get("revision") and step.get("status", "revised") == "revised":
            found = (answer, step)
            answer = step["revision"]
    if found is None:
        raise LeftOut("no-revision")
    if answer not in (answer_text(row["chosen"]), answer_text(row["rejected"])):
        raise LeftOut("revision-not-in-pair")
    return found


def _requests(id: str, constitution: Constitution | None) -> tuple[str, str]:
    """What the model was asked for critique and revision; the id where the text is not at hand."""
    for principle in constitution.principles if constitution else ():
        if principle.id == id and principle.critique and principle.revision:
            return (
                CRITIQUE.replace("{principle}", principle.critique),
                REVISION.replace("{principle}", principle.revision),
            )
    return id, id
