"""Pairs whose better answer people know, to hold a judge against: every format that has such pairs.

Reads through the importers of data sets, so a file means the same here as there. Several labelers
of one pair become their majority, and their labels are kept. Start from `read_known`;
`read_judgments` takes JudgeBench's own outputs, which have the verdicts with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from cai.dataset.human import Agreement, NoConsensus, agreement, consensus, pair_side
from cai.dataset.importers.reading import Imported, detect_format, import_rows
from cai.dataset.importers.records import Record, iter_records
from cai.errors import ConfigError, DataError
from cai.evaluate.judge_metrics import Judged
from cai.files import digest_file
from cai.registry import choices
from cai.types import Conversation, conversation

FORMATS: Final[Mapping[str, str | None]] = {
    "auto": None,
    "rewardbench": "rewardbench",
    "rewardbench2": "rewardbench",
    "judgebench": "judgebench",
    "hh": "hh-rlhf",
    "hhh": "hhh",
    "annotated-pairs": "annotated-pairs",
    "preferences": None,
}
"""Names of formats here, and the importer's name of each; None is told by the first record."""

_NAMES = {"hh-rlhf": "hh", "rewardbench": "rewardbench", "judgebench": "judgebench", "hhh": "hhh"}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KnownPair:
    """Two answers to a conversation, and which is the better one by those who labelled them.

    `side` names the better one the same whoever labels the pair, and `labels` has the side that
    each labeler took. `group` is the record that it came from: with several answers, of several
    pairs. `is_second`: the file itself shows the better answer second.
    """

    id: str
    conversation: Conversation
    better: str
    worse: str
    side: str
    group: str
    subset: str = ""
    share: float = 1.0
    labels: Mapping[str, str] | None = None
    is_human: bool = True
    is_second: bool = False

    @property
    def other_side(self) -> str:
        """The side of the worse answer."""
        return "second" if self.side == "first" else "first"


class Known(NamedTuple):
    """The pairs of a file, what of it was left out, and how far its labelers agree."""

    format: str
    pairs: tuple[KnownPair, ...]
    skipped: Mapping[str, int]
    agreement: Agreement | None
    digest: str


def read_known(path: Path, *, format: str = "auto", limit: int | None = None) -> Known:
    """The pairs of `path`; of the first `limit` records that have any, if that is given.

    Raises DataError when there is none, ConfigError for a format that is not one of `FORMATS`.
    """
    if format not in FORMATS:
        raise ConfigError(f"no format '{format[:60]}'{choices(format, FORMATS)}", param="format")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give a number from 1 on", param="limit")
    importer = FORMATS[format] or detect_format(path)
    skipped: Counter[str] = Counter()
    rows = list(_limited(_rows(path, importer, skipped), limit))
    is_labelled = any("labeler" in row for row in rows)
    agreed = list(_agreed(rows, skipped)) if is_labelled else rows
    pairs = tuple([pair for row in agreed if (pair := _pair(row, skipped)) is not None])
    if not pairs:
        left_out = ", ".join(f"{reason} {n}" for reason, n in sorted(skipped.items()))
        raise DataError(
            f"{path}: no pair of answers with a known better one in it"
            + (f" (left out: {left_out})" if left_out else "; it is empty")
        )
    is_best_of = importer == "rewardbench" and len({pair.group for pair in pairs}) < len(pairs)
    named = "rewardbench2" if is_best_of else _NAMES.get(importer, importer)
    return Known(
        format=format if format == "rewardbench2" else named,
        pairs=pairs,
        skipped=dict(sorted(skipped.items())),
        agreement=_agreement(rows) if is_labelled else None,
        digest=digest_file(path),
    )


def read_judgments(path: Path) -> list[tuple[str, Judged]]:
    """Source, label and decisions of each pair in a file as JudgeBench writes its outputs.

    `judgments` holds one or two of `{"decision": "A>B" | "B>A" | …}` or null. Raises DataError by
    line for a record that is not so, and when there is none.
    """
    found = []
    for record in iter_records(path):
        value = record.value if isinstance(record, Record) else None
        where = f"{path}:{record.line}"
        if not isinstance(value, Mapping) or value.get("label") not in ("A>B", "B>A"):
            raise DataError(f"{where}: no pair of JudgeBench's: 'label' should be A>B or B>A")
        judgments = value.get("judgments")
        if not isinstance(judgments, list) or not 1 <= len(judgments) <= 2:
            raise DataError(f"{where}: 'judgments' should be a list of one or two")
        decisions = [_decision(one, where) for one in judgments]
        judged = Judged(value["label"], decisions[0], decisions[1] if len(decisions) > 1 else None)
        found.append((str(value.get("source", "")), judged))
    if not found:
        raise DataError(f"{path}: there is no pair in the file")
    return found


def _decision(judgment: Any, where: str) -> Any:
    """The decision, whatever it says: what is no verdict counts as none, as there."""
    if judgment is None:
        return None
    if not isinstance(judgment, Mapping) or not isinstance(judgment.get("decision"), str | None):
        raise DataError(f"{where}: a judgment should be null or have a 'decision' of text")
    return judgment.get("decision")


def _rows(path: Path, importer: str, skipped: Counter[str]) -> Iterator[Row]:
    for item in import_rows(path, format=importer):
        if not isinstance(item, Imported):
            skipped[item.reason] += 1
        elif len(item.row["chosen"]) > 1 or len(item.row["rejected"]) > 1:
            skipped["several-turns"] += 1
        else:
            origin = {"line": item.line, **item.row.get("origin", {})}
            yield {**item.row, "origin": origin}


def _limited(rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
    """The rows of the first records: one may have several."""
    for number, (_, ones) in enumerate(groupby(rows, key=lambda row: row["origin"]["line"])):
        if number == limit:
            return
        yield from ones


def _agreed(rows: Iterable[Row], skipped: Counter[str]) -> Iterator[Row]:
    for item in consensus(rows):
        if isinstance(item, NoConsensus):
            skipped["no-consensus"] += 1
        else:
            yield item


def _agreement(rows: Iterable[Row]) -> Agreement | None:
    found = agreement([row for row in rows if "labeler" in row])
    return found if found.num_labelers > 1 else None


def _pair(row: Row, skipped: Counter[str]) -> KnownPair | None:
    if row["p_chosen"] == 0.5:
        skipped["tie"] += 1
        return None
    if row["p_chosen"] < 0.5:
        turned = {"chosen": row["rejected"], "rejected": row["chosen"]}
        row = {**row, **turned, "p_chosen": 1 - row["p_chosen"]}
    origin, side = row["origin"], pair_side(row)
    other = "second" if side == "first" else "first"
    votes = row.get("votes", {})
    sides = ((side, votes.get("chosen", ())), (other, votes.get("rejected", ())))
    labels = {name: which for which, names in sides for name in names}
    return KnownPair(
        id=row["id"],
        conversation=conversation(row["prompt"]),
        better=row["chosen"][0]["content"],
        worse=row["rejected"][0]["content"],
        side=side,
        group=str(origin.get("id", origin["line"])),
        subset=str(origin.get("subset", origin.get("source", ""))),
        share=float(row["p_chosen"]),
        labels=labels or None,
        is_human=row["source"] == "human",
        is_second=origin.get("label") == "B>A",
    )
