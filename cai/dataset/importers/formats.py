"""The table of formats: their names, how each is known by its first record, and its parser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cai.dataset.importers import pairs
from cai.dataset.preferences import Source
from cai.errors import DataError
from cai.registry import did_you_mean

Keys = frozenset[str]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, its test of a record, the parser of one, and who made its labels.

    Formats without a parser are read as a whole: see `importers.reading`.
    """

    name: str
    matches: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Mapping[str, Any]], list[pairs.Pair]] | None
    source: Source = "human"


def _has(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda record: all(name in record for name in names)


def _is_hh(record: Mapping[str, Any]) -> bool:
    sides = record.get("chosen"), record.get("rejected")
    return "prompt" not in record and all(
        isinstance(side, str) and side.startswith("\n\nHuman:") for side in sides
    )


FORMATS: tuple[Format, ...] = (  # the first that matches is taken: narrow ones stand before wide
    Format("annotated-pairs", _has("comparisons"), None),
    Format("cai", _has("format", "input_id", "p_chosen", "chosen", "rejected"), None),
    Format("ranking", _has("ranking", "outputs"), None),
    Format(
        "hf-cai",
        _has("init_prompt", "init_response", "revision_response", "chosen", "rejected"),
        pairs.parse_cai_conversation,
        "ai",
    ),
    Format(
        "ultrafeedback",
        _has("prompt_id", "score_chosen", "score_rejected", "chosen", "rejected"),
        pairs.parse_ultrafeedback,
        "ai",
    ),
    Format(
        "judgebench", _has("question", "response_A", "response_B", "label"), pairs.parse_judgebench
    ),
    Format(
        "hhh", _has("corrects", "incorrects", "text_correct", "text_incorrect"), pairs.parse_hhh
    ),
    Format("rewardbench", _has("prompt", "chosen", "rejected", "subset"), pairs.parse_rewardbench),
    Format("trl-unpaired", _has("prompt", "completion", "label"), None),
    Format("hh-rlhf", _is_hh, pairs.parse_hh_pair),
    Format("trl", _has("chosen", "rejected"), pairs.parse_trl),
)
NAMES = tuple(one.name for one in FORMATS)


def get_format(name: str) -> Format:
    """The format of this name. Raises DataError naming close ones."""
    for one in FORMATS:
        if one.name == name:
            return one
    raise DataError(
        f"no format '{name}'{did_you_mean(name, NAMES)}; there are: {', '.join(NAMES)}",
        param="format",
    )


def detect(record: Any) -> Format | None:
    """The format that a record is of; None when it is of none."""
    if not isinstance(record, Mapping):
        return None
    return next((one for one in FORMATS if one.matches(record)), None)
