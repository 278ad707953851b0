"""Prompts with a known nature, drawn by a seed: the same arguments give the same prompts.

Kinds: harmful, jailbreak, benign, unclear, false_claim, each in one to three turns.
Start from `prompts`; `draw_prompt` gives one prompt from a generator of one's own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cai.errors import PromptError
from cai.sandbox import phrasing
from cai.sandbox.topics import COLOURS, PLACES, Split, Topic, topics_of
from cai.sandbox.wording import HELP
from cai.types import Conversation, Message

PromptKind = Literal["harmful", "jailbreak", "benign", "unclear", "false_claim"]
Task = Literal["harm", "deed", "care", "colour", "place", "claim", "unclear"]
KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

TURN_SHARES = ((1, 0.6), (2, 0.28), (3, 0.12))
KIND_SHARES = {
    "harmful": 0.3, "jailbreak": 0.12, "benign": 0.34, "unclear": 0.08, "false_claim": 0.16,
}  # fmt: skip
BENIGN_TASKS: tuple[tuple[Task, float], ...] = (
    ("deed", 0.45), ("care", 0.17), ("colour", 0.14), ("place", 0.14), ("claim", 0.1),
)  # fmt: skip
WRAPPED_BENIGN = 0.1
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What the last message of a prompt asks, as the world knows it.

    `fact` is the attribute in question ("colour" or "place"), `claimed` the value that the user
    states; `wrapped` says whether a jailbreak stands around the request.
    """

    kind: PromptKind
    task: Task
    topic: Topic | None = None
    fact: Literal["colour", "place"] | None = None
    claimed: str | None = None
    wrapped: bool = False

    @property
    def is_harmful(self) -> bool:
        """Whether answering as asked does harm."""
        return self.task == "harm"

    @property
    def truth(self) -> str | None:
        """The true value of the fact in question."""
        return getattr(self.topic, self.fact) if self.topic and self.fact else None


@dataclass(frozen=True, slots=True)
class SandboxPrompt:
    """A conversation whose last message is a request of known nature."""

    id: str
    messages: Conversation
    request: Request
    split: Split

    def as_dict(self) -> dict[str, Any]:
        """The row that `cai sandbox prompts` writes."""
        topic = self.request.topic
        return {
            "id": self.id,
            "messages": [message.as_dict() for message in self.messages],
            "kind": self.request.kind,
            "task": self.request.task,
            "topic": topic.name if topic else None,
            "harm_kind": topic.kind.name if topic and self.request.is_harmful else None,
            "split": self.split,
            "turns": sum(message.role == "user" for message in self.messages),
        }


def prompts(
    split: Split, kind: str | None = None, n: int = 100, seed: int = 0, *, turns: int | None = None
) -> list[SandboxPrompt]:
    """`n` prompts of a split, of one kind or (None) of all; distinct as long as the world can."""
    if kind is not None and kind not in KINDS:
        raise PromptError(f"no prompt kind '{kind}'; kinds: {', '.join(KINDS)}", param="kind")
    if turns not in (None, 1, 2, 3):
        raise PromptError(f"turns={turns}: a prompt has 1, 2 or 3 turns", param="turns")
    draw = random.Random(f"{split} {kind} {seed} {turns}")
    seen: set[Conversation] = set()
    found = []
    for index in range(n):
        for _ in range(ATTEMPTS):
            messages, request = draw_prompt(draw, split, kind, turns=turns)
            if messages not in seen:
                break
        seen.add(messages)
        found.append(
            SandboxPrompt(f"{split}-{kind or 'any'}-{seed}-{index:05d}", messages, request, split)
        )
    return found


def draw_prompt(
    draw: random.Random, split: Split, kind: str | None = None, *, turns: int | None = None
) -> tuple[Conversation, Request]:
    """One conversation and what its last message asks."""
    chosen: Any = kind or _weighted(draw, tuple(KIND_SHARES.items()))
    num_turns = turns or _weighted(draw, TURN_SHARES)
    topic = draw.choice(topics_of(split))
    history: list[Message] = []
    for _ in range(num_turns - 1):
        history += _earlier_turn(draw, split, topic)
    text, request = _last_turn(draw, split, chosen, topic, follows=bool(history))
    return (*history, Message("user", text)), request


def _last_turn(
    draw: random.Random, split: Split, kind: PromptKind, topic: Topic, *, follows: bool
) -> tuple[str, Request]:
    if kind == "unclear":
        return _unclear(draw, split, topic)
    if kind == "false_claim":
        return _claim(draw, split, topic, true=False)
    if kind == "benign":
        return _benign(draw, split, topic, follows=follows)
    wrapped = kind == "jailbreak"
    text = _deed(draw, split, topic, "harm", follows=follows, wrapped=wrapped)
    return text, Request(kind, "harm", topic, wrapped=wrapped)


def _benign(
    draw: random.Random, split: Split, topic: Topic, *, follows: bool
) -> tuple[str, Request]:
    task = _weighted(draw, BENIGN_TASKS)
    if task == "claim":
        return _claim(draw, split, topic, true=True)
    if task in ("colour", "place"):
        frame = draw.choice(getattr(phrasing.FRAMES[split], task))
        return frame.replace("{o}", topic.name), Request("benign", task, topic, fact=task)
    wrapped = draw.random() < WRAPPED_BENIGN
    text = _deed(draw, split, topic, task, follows=follows, wrapped=wrapped)
    return text, Request("benign", task, topic, wrapped=wrapped)


def _deed(
    draw: random.Random, split: Split, topic: Topic, task: Task, *, follows: bool, wrapped: bool
) -> str:
    frames, deeds = phrasing.FRAMES[split], phrasing.DEEDS[topic.kind.name]
    follows = follows and draw.random() < 0.7
    if task == "care":
        deed = phrasing.CARE_FOLLOW if follows else phrasing.CARE
    elif task == "harm":
        deed = draw.choice(deeds.harmful_follow if follows else deeds.harmful)
    else:
        deed = draw.choice(deeds.benign_follow if follows else deeds.benign)
    frame = draw.choice(frames.follow if follows and not wrapped else frames.deed)
    text = frame.replace("{d}", deed.replace("{o}", topic.name))
    if not wrapped:
        return text
    role = draw.choice(phrasing.ROLES)
    return draw.choice(frames.jailbreak).replace("{r}", role).replace("{q}", text)


def _claim(draw: random.Random, split: Split, topic: Topic, *, true: bool) -> tuple[str, Request]:
    fact: Literal["colour", "place"] = draw.choice(("colour", "place"))
    truth: str = getattr(topic, fact)
    values = COLOURS if fact == "colour" else PLACES
    claimed = truth if true else draw.choice([value for value in values if value != truth])
    statement = phrasing.COLOUR_STATEMENT if fact == "colour" else phrasing.PLACE_STATEMENT
    statement = statement.replace("{o}", topic.name).replace("{v}", claimed)
    text = draw.choice(phrasing.FRAMES[split].claim).replace("{s}", statement)
    kind: PromptKind = "benign" if true else "false_claim"
    return text, Request(kind, "claim", topic, fact=fact, claimed=claimed)


def _unclear(draw: random.Random, split: Split, topic: Topic) -> tuple[str, Request]:
    frames = phrasing.FRAMES[split]
    if draw.random() < 0.3:
        return draw.choice(frames.unclear), Request("unclear", "unclear")
    text = draw.choice(frames.unclear_topic).replace("{o}", topic.name)
    return text, Request("unclear", "unclear", topic)


def _earlier_turn(draw: random.Random, split: Split, topic: Topic) -> list[Message]:
    """A harmless question about the object and its right answer."""
    task = _weighted(draw, (("colour", 0.35), ("place", 0.35), ("care", 0.3)))
    if task == "care":
        frame = draw.choice(phrasing.FRAMES[split].deed)
        text = frame.replace("{d}", phrasing.CARE.replace("{o}", topic.name))
    else:
        text = draw.choice(getattr(phrasing.FRAMES[split], task)).replace("{o}", topic.name)
    answer = draw.choice(HELP[task]).format(**topic.slots())
    return [Message("user", text), Message("assistant", answer)]


def _weighted(draw: random.Random, shares: tuple[tuple[Any, float], ...]) -> Any:
    return draw.choices([share[0] for share in shares], [share[1] for share in shares])[0]
