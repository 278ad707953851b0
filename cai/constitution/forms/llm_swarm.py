"""llm-swarm's form: `{"constitutions": [{"critic", "revision"}], "system_chat": [[turn …]]}`.

Each chat ends with an answer, a critique's request, the critique, a revision's request and the
revision: a worked example. The requests of the chats are not kept; written anew, they are those of
the principles in turn. A list of principles alone is read too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cai.constitution.schema import Constitution
from cai.errors import ConstitutionError

_LAST_ROLES = ("user", "assistant", "user", "assistant", "user", "assistant")


def is_form(value: Any) -> bool:
    """Whether a JSON value has the form."""
    entries = value.get("constitutions") if isinstance(value, dict) else value
    return (
        isinstance(entries, list)
        and bool(entries)
        and all(
            isinstance(one, dict)
            and isinstance(one.get("critic"), str)
            and isinstance(one.get("revision"), str)
            for one in entries
        )
    )


def read(value: Any) -> dict[str, Any]:
    """A principle per entry, an example per chat."""
    entries = value["constitutions"] if isinstance(value, dict) else value
    chats = value.get("system_chat", []) if isinstance(value, dict) else []
    return {
        "title": "Critique and revision requests in llm-swarm's form",
        "principles": [
            {"id": f"critic{index}", "critique": one["critic"], "revision": one["revision"]}
            for index, one in enumerate(entries)
        ],
        "few_shot": [_example(chat, index) for index, chat in enumerate(chats)],
    }


def write(constitution: Constitution) -> str:
    """The form; principles without a critique are left out."""
    critics = constitution.candidates("critique")
    if not critics:
        raise ConstitutionError(
            f"no principle of {constitution.ref} has 'critique'; export another form",
            param="format",
        )
    chats = []
    for index, example in enumerate(constitution.few_shot):
        critic = critics[index % len(critics)]
        turns = [(turn.role, turn.content) for turn in example.messages]
        turns += [
            ("assistant", example.response),
            ("user", critic.critique or ""),
            ("assistant", example.critique),
            ("user", critic.revision or ""),
            ("assistant", example.revision),
        ]
        chats.append([{"role": role, "content": content} for role, content in turns])
    entries = [{"critic": one.critique, "revision": one.revision} for one in critics]
    value = {"constitutions": entries, "system_chat": chats}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _example(chat: Any, index: int) -> dict[str, Any]:
    if not isinstance(chat, Sequence) or not all(_is_turn(turn) for turn in chat):
        raise ConstitutionError(f"system_chat[{index}] is no list of turns with role and content")
    if tuple(turn["role"] for turn in chat[-6:]) != _LAST_ROLES:
        raise ConstitutionError(
            f"system_chat[{index}] does not end with question, answer, and the requests and texts "
            "of a critique and a revision"
        )
    response, _, critique, _, revision = (turn["content"] for turn in chat[-5:])
    return {
        "messages": [{"role": one["role"], "content": one["content"]} for one in chat[:-5]],
        "response": response,
        "critique": critique,
        "revision": revision,
    }


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("role") in ("system", "user", "assistant")
        and isinstance(turn.get("content"), str)
    )
