"""Formats with one pair in a record: HH-RLHF, TRL, the hub's preference sets, judges' benchmarks.

Each parser takes a record and returns its pairs, or raises `UnusableRow`. Where a format leaves
room (two turns of one role, a missing prompt), what was mended is in the pair's `note`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cai.dataset.conversations import (
    MERGED_TURNS,
    UnusableRow,
    check_text,
    merge_turns,
    parse_hh,
    read_messages,
)
from cai.types import Conversation, Message

Record = Mapping[str, Any]


_CAI_PARTS = (
    *("init_prompt", "init_response", "critic_prompt", "critic_response"),
    *("revision_prompt", "revision_response"),
)


class Pair(NamedTuple):
    """Two answers to a prompt, the better one first, and what else the record says of them."""

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    p_chosen: float = 1.0
    note: str | None = None
    origin: Mapping[str, Any] = {}
    transcript: Mapping[str, Any] | None = None
    labeler: str | None = None
    is_human: bool | None = None


def parse_hh_pair(record: Record) -> list[Pair]:
    """HH-RLHF: two transcripts as text; the prompt is all that comes before the last turn."""
    chosen = parse_hh(_text(record, "chosen"), field="chosen")
    rejected = parse_hh(_text(record, "rejected"), field="rejected")
    return [_from_transcripts(chosen, rejected)]


def parse_trl(record: Record) -> list[Pair]:
    """TRL's preference form: explicit or implicit prompt, texts or messages."""
    if "prompt" not in record:
        return [_implicit(record)]
    prompt = _prompt(record["prompt"])
    chosen, rejected = _answer(record, "chosen"), _answer(record, "rejected")
    if len(chosen) > len(prompt) and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return [checked_pair(prompt, chosen, rejected, **_margin(record))]


def parse_ultrafeedback(record: Record) -> list[Pair]:
    """UltraFeedback-binarized: whole conversations, with the scores of both answers."""
    pair = _implicit(record)
    scores = {
        name: record[name]
        for name in ("score_chosen", "score_rejected", "prompt_id")
        if record.get(name) is not None
    }
    low, high = scores.get("score_rejected"), scores.get("score_chosen")
    if isinstance(low, int | float) and isinstance(high, int | float) and low >= high:
        raise UnusableRow("tie", "the chosen answer is not scored above the rejected one")
    return [pair._replace(origin=scores)]


def parse_cai_conversation(record: Record) -> list[Pair]:
    """The hub's cai-conversation-harmless: the pair, and the critique and revision it came from."""
    pair = _implicit(record)
    parts = {name: record.get(name) for name in _CAI_PARTS}
    if not all(isinstance(text, str) for text in parts.values()):
        raise UnusableRow("missing-field", f"one of {', '.join(_CAI_PARTS)} is no text")
    step = {
        "principle": str(parts["critic_prompt"]).strip(),
        "critique": str(parts["critic_response"]).strip(),
        "revision": str(parts["revision_response"]).strip(),
    }
    transcript = {"draft": str(parts["init_response"]).strip(), "steps": [step]}
    return [pair._replace(transcript=transcript)]


def parse_rewardbench(record: Record) -> list[Pair]:
    """RewardBench 1 and 2: texts, or lists of right and wrong answers, each with each."""
    prompt = _prompt(record.get("prompt"))
    origin = {
        name: record[name]
        for name in ("id", "subset", "chosen_model", "rejected_model", "models")
        if record.get(name) is not None
    }
    return [
        checked_pair(prompt, _said(chosen, "chosen"), _said(rejected, "rejected"), origin=origin)
        for chosen in _listed(record, "chosen")
        for rejected in _listed(record, "rejected")
    ]


def parse_judgebench(record: Record) -> list[Pair]:
    """JudgeBench: a question, two answers, and which of them is correct."""
    prompt = _prompt(record.get("question"))
    a, b = (
        _said(record.get("response_A"), "response_A"),
        _said(record.get("response_B"), "response_B"),
    )
    label = record.get("label")
    if label not in ("A>B", "B>A"):
        raise UnusableRow("no-verdict", "'label' should be A>B or B>A")
    chosen, rejected = (a, b) if label == "A>B" else (b, a)
    origin = {
        name: record[name]
        for name in ("pair_id", "original_id", "source", "response_model", "label")
        if record.get(name) is not None
    }
    return [checked_pair(prompt, chosen, rejected, origin=origin)]


def parse_hhh(record: Record) -> list[Pair]:
    """The paper's HHH evaluations: the right and the wrong transcript stand beside the question."""
    correct = parse_hh(_text(record, "text_correct"), field="text_correct")
    incorrect = parse_hh(_text(record, "text_incorrect"), field="text_incorrect")
    pair = _from_transcripts(correct, incorrect)
    asked = _text(record, "prompt")
    for name, answer in (("corrects", pair.chosen), ("incorrects", pair.rejected)):
        options = record.get(name)
        if not isinstance(options, list) or not options:
            raise UnusableRow("missing-field", f"'{name}' should be a list of options")
        shown = f"{str(options[0]).strip()} [[[{answer[-1].content}]]]"
        if _squeezed(shown) not in _squeezed(asked):
            raise UnusableRow("options-disagree", f"'{name}' does not name the text beside it")
    return [pair]


def _from_transcripts(chosen: Conversation, rejected: Conversation) -> Pair:
    """A pair from two conversations that should differ in the last turn alone."""
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRow("prompts-differ", "'chosen' and 'rejected' differ before their last turn")
    prompt = merge_turns(chosen[:-1])
    note = MERGED_TURNS if len(prompt) < len(chosen) - 1 else None
    return checked_pair(prompt, chosen[-1:], rejected[-1:], note=note)


def _implicit(record: Record) -> Pair:
    """A pair from whole conversations as texts or messages; the shared beginning is the prompt."""
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _implicit_text(chosen, rejected)
    first, second = read_messages(chosen, "chosen"), read_messages(rejected, "rejected")
    num_shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        num_shared += 1
    while num_shared and first[num_shared - 1].role != "user":
        num_shared -= 1
    if not num_shared:
        raise UnusableRow("prompts-differ", "'chosen' and 'rejected' share no turn of the user's")
    return checked_pair(first[:num_shared], first[num_shared:], second[num_shared:])


def _implicit_text(chosen: str, rejected: str) -> Pair:
    """HH-RLHF's form where both have it; else plain texts, split where they begin to differ."""
    if chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:"):
        return parse_hh_pair({"chosen": chosen, "rejected": rejected})[0]
    size = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    while size and not chosen[size - 1].isspace():
        size -= 1  # the split goes between words
    prompt = chosen[:size].strip()
    if not prompt:
        raise UnusableRow("prompts-differ", "'chosen' and 'rejected' share no beginning")
    return checked_pair(
        (Message("user", prompt),),
        _said(chosen[size:], "chosen"),
        _said(rejected[size:], "rejected"),
        note="prompt-from-shared-text",
    )


def checked_pair(
    prompt: Conversation, chosen: Conversation, rejected: Conversation, **more: Any
) -> Pair:
    """The pair, once everything that every format needs is there."""
    if not prompt or prompt[-1].role != "user":
        raise UnusableRow("no-user-turn", "the prompt does not end with the user's turn")
    if not prompt[-1].content.strip():
        raise UnusableRow("empty-prompt", "the user's last turn is empty")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[-1].role != "assistant":
            raise UnusableRow("no-answer", f"'{name}' does not end with the assistant's turn")
        if not answer[-1].content.strip():
            raise UnusableRow("empty-answer", f"the last turn of '{name}' is empty")
    if chosen == rejected:
        raise UnusableRow("identical", "'chosen' and 'rejected' are the same")
    check_text((*prompt, *chosen, *rejected))
    return Pair(prompt, chosen, rejected, **more)


def _prompt(value: Any) -> Conversation:
    if isinstance(value, str):
        return (Message("user", value),)
    return read_messages(value, "prompt")


def _answer(record: Record, field: str) -> Conversation:
    value = record.get(field)
    return _said(value, field) if isinstance(value, str) else read_messages(value, field)


def _said(value: Any, field: str) -> Conversation:
    if not isinstance(value, str):
        raise UnusableRow("missing-field", f"'{field}' should be text")
    return (Message("assistant", value),)


def _text(record: Record, field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str):
        raise UnusableRow("missing-field", f"'{field}' should be text")
    return value


def _listed(record: Record, field: str) -> list[Any]:
    value = record.get(field)
    if isinstance(value, list) and not value:
        raise UnusableRow("no-answer", f"'{field}' is an empty list")
    return value if isinstance(value, list) else [value]


def _margin(record: Record) -> dict[str, Any]:
    margin = record.get("margin")
    return {"origin": {"margin": margin}} if isinstance(margin, int | float) else {}


def _squeezed(text: str) -> str:
    return "".join(text.split())
