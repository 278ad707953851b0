"""Items for review, from files: a run's rows, annotated pairs and other preferences, verdicts.

A verdict is a JSON line `{prompt, a, b, policy_a?, policy_b?, p_a? | winner?, judge? | rater?}`, a
single answer `{prompt, response, policy?}`, with `messages` for `prompt` if need be; those of an
evaluation give pairs of policies (`answers.py`), and the queue's own export comes back as it was
(`lines.py`). Start from `iter_drafts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cai.dataset.conversations import UnusableRow, check_text, parse_record, read_messages
from cai.dataset.importers.formats import detect
from cai.dataset.importers.reading import Imported, import_rows
from cai.dataset.importers.records import Record, Skipped, first_record, iter_records
from cai.errors import DataError
from cai.feedback.labels import read_pair
from cai.review.answers import is_evaluation, of_evaluation
from cai.review.lines import is_review_line, of_review
from cai.review.records import SHARES, ItemDraft, Kind, Opinion, Turns, draft_pair


def iter_drafts(path: Path, *, kind: Kind = "pair") -> Iterator[ItemDraft | Skipped]:
    """The items of a run directory or a file, in its order; what gives none, and why.

    With `rating` each answer of a pair is an item of its own. Raises InputError where the file as
    a whole cannot be used.
    """
    file = _file(path)
    first = first_record(file)
    if is_evaluation(first):
        drafts = of_evaluation(file, kind)
    elif is_review_line(first):
        drafts = of_review(file)
    elif _is_verdict(first) or _is_single(first):
        drafts = _of_records(file)
    elif detect(first) is not None:
        drafts = _of_rows(file, first)
    else:
        raise DataError(
            f"{file}: nothing to review in its first record; give a run, preferences, verdicts "
            "with prompt, a and b, or single answers with prompt and response"
        )
    for draft in drafts:
        if isinstance(draft, ItemDraft) and kind == "rating" and draft.kind == "pair":
            yield from singles(draft)
        else:
            yield draft


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("rows.jsonl", "answers.jsonl", "verdicts.jsonl"):
        if (path / name).is_file():
            return path / name
    raise DataError(f"{path}: has no rows.jsonl, answers.jsonl or verdicts.jsonl; is it a run?")


def _of_rows(file: Path, first: Any) -> Iterator[ItemDraft | Skipped]:
    models = _models(first)
    for item in import_rows(file):
        yield _of_row(item.row, models) if isinstance(item, Imported) else item


def _of_row(row: Mapping[str, Any], models: Mapping[tuple[str, str], str]) -> ItemDraft:
    origin = row.get("origin") or {}
    return draft_pair(
        row["prompt"],
        (row["chosen"], row["rejected"]),
        policies=[_policy(row, side, origin, models) for side in ("chosen", "rejected")],
        opinions=_opinions(row),
        origin={
            "row": row["id"],
            "input_id": row["input_id"],
            **{name: row[name] for name in ("constitution",) if name in row},
            **({"of": origin} if origin else {}),
        },
    )


def _policy(
    row: Mapping[str, Any],
    side: str,
    origin: Mapping[str, Any],
    models: Mapping[tuple[str, str], str],
) -> str | None:
    """Who gave an answer, as far as the row tells: by the file's model, or the run's policy."""
    named = models.get((str(origin.get("id")), row[side][-1]["content"]))
    found = named or origin.get(f"{side}_model") or (row.get("policy") or {}).get("id")
    return None if found is None else str(found)


def _opinions(row: Mapping[str, Any]) -> list[Opinion]:
    """What is known of the chosen answer, which is `a` here."""
    before = row.get("overrides") or {}
    label = before.get("label") or row.get("label") or {}
    found = []
    if row["source"] == "ai" or before.get("source") == "ai":
        by = (label.get("judge") or {}).get("policy") or "judge"
        found.append(("judge", by, before.get("p_chosen", row["p_chosen"])))
    turned = before.get("agrees") is False  # that label shows the judge's choice as A
    for vote in label.get("votes", ()):
        p = read_pair(vote["order_ab"], vote["order_ba"]).p_a
        found.append(("principle", vote["principle"], 1 - p if turned else p))
    votes = row.get("votes") or {}
    found += [("human", name, 1.0) for name in votes.get("chosen", ())]
    found += [("human", name, 0.0) for name in votes.get("rejected", ())]
    if row["source"] == "human" and not votes:
        found.append(("human", row.get("labeler") or "unnamed", row["p_chosen"]))
    return [Opinion.model_validate({"kind": kind, "by": by, "p_a": p_a}) for kind, by, p_a in found]


def _models(document: Any) -> dict[tuple[str, str], str]:
    """Of annotated pairs: who gave which answer, by the comparison's id and the text."""
    found = {}
    comparisons = document.get("comparisons", ()) if isinstance(document, Mapping) else ()
    for one in comparisons if isinstance(comparisons, list) else ():
        for side in ("response_a", "response_b"):
            response = one.get(side) if isinstance(one, Mapping) else None
            if isinstance(response, Mapping) and response.get("model"):
                key = str(one.get("id")), str(response.get("text"))
                found[key] = str(response["model"])
    return found


def _of_records(file: Path) -> Iterator[ItemDraft | Skipped]:
    for record in iter_records(file):
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            yield _of_record(record)
        except UnusableRow as exc:
            yield Skipped(record.line, exc.reason, exc.detail)


def _of_record(record: Record) -> ItemDraft:
    value = record.value
    prompt = [message.as_dict() for message in parse_record(_asked(value)).messages]
    origin = {name: value[name] for name in ("id", "input_id", "suite") if name in value}
    if _is_verdict(value):
        answers = [_answer(value, side) for side in ("a", "b")]
        if answers[0] == answers[1]:
            raise UnusableRow("same-answers", "both answers are the same")
        policies = [_named(value, side) for side in ("a", "b")]
        return draft_pair(
            prompt, answers, policies=policies, opinions=_verdict(value), origin=origin
        )
    return ItemDraft(
        kind="rating",
        prompt=prompt,
        answers=(_turns(value.get("response", value.get("answer")), "response"),),
        policies=(_text(value.get("policy")),),
        origin=origin,
    )


def _asked(value: Any) -> Any:
    """The record as a prompt's: one that has `messages` is asked by these alone."""
    if not isinstance(value, Mapping):
        return value
    return {name: value[name] for name in ("prompt", "messages") if name in value}


def _verdict(value: Mapping[str, Any]) -> Iterable[Opinion]:
    p_a = value.get("p_a", SHARES.get(str(value.get("winner"))))
    if p_a is None:  # the judge gave no verdict, and that is none
        return
    if isinstance(p_a, bool) or not isinstance(p_a, int | float) or not 0 <= p_a <= 1:
        raise UnusableRow("bad-label", "'p_a' should be a number from 0 to 1")
    rater = _text(value.get("rater"))
    judge = value.get("judge")
    name = judge.get("model") or judge.get("policy") if isinstance(judge, Mapping) else judge
    kind: Any = "judge" if rater is None else "human"
    yield Opinion(by=rater or _text(name) or "judge", kind=kind, p_a=p_a)


def _answer(value: Mapping[str, Any], side: str) -> Turns:
    given = value.get(side, value.get(f"response_{side}"))
    return _turns(given.get("text") if isinstance(given, Mapping) else given, side)


def _named(value: Mapping[str, Any], side: str) -> str | None:
    given = value.get(side, value.get(f"response_{side}"))
    inside = given if isinstance(given, Mapping) else {}
    return _text(value.get(f"policy_{side}") or inside.get("policy") or inside.get("model"))


def _turns(given: Any, field: str) -> Turns:
    turns = [{"role": "assistant", "content": given}] if isinstance(given, str) else given
    answer = read_messages(turns, field)
    if not answer[-1].content.strip():
        raise UnusableRow("empty-answer", f"'{field}' is empty")
    check_text(answer)
    return [message.as_dict() for message in answer]


def singles(draft: ItemDraft) -> Iterator[ItemDraft]:
    """Each answer of a pair as an item of its own."""
    for answer, policy in zip(draft.answers, draft.policies, strict=True):
        yield ItemDraft(
            kind="rating",
            prompt=draft.prompt,
            answers=(answer,),
            policies=(policy,),
            origin=draft.origin,
        )


def _is_verdict(record: Any) -> bool:
    return _is_asked(record) and all(
        side in record or f"response_{side}" in record for side in ("a", "b")
    )


def _is_single(record: Any) -> bool:
    return _is_asked(record) and ("response" in record or "answer" in record)


def _is_asked(record: Any) -> bool:
    return isinstance(record, Mapping) and ("prompt" in record or "messages" in record)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
