"""What the bundled model is trained on: chats, plain facts, critique chains, comparisons.

Chats and facts cover both splits; critiques, revisions and comparisons only the train split.
Texts only: `cai.sandbox.batches` turns them into tokens. Start from `chat`, `chain`, `comparison`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cai.critique.prompts import ask_critique, ask_revision
from cai.feedback.prompts import COMPARE_TAIL, ask_comparison
from cai.sandbox import wording
from cai.sandbox.answers import (
    BASE_DECORATIONS,
    DECORATIONS,
    Answer,
    Decoration,
    base_answer,
    broken_answer,
    cores_of,
    decorate,
    good_core,
    ideal_answer,
    make_answer,
)
from cai.sandbox.dimensions import DIMENSIONS, Dimension, better, is_flawed, planted_p_first
from cai.sandbox.principles import INVERTED_SHARE, Texts, compare_wording, critique_pair
from cai.sandbox.prompts import PromptKind, Request, draw_prompt
from cai.sandbox.topics import SPLITS, TOPICS, Split
from cai.types import Conversation, Message

NO_CHANGE = "No change needed."
BROKEN_SHARE = 0.08
STRANGE_SHARE = 0.04
LONG_SHARE = 0.02
SYSTEM_SHARE = 0.05
CHAIN_GO_ON = 0.5
REVISE_ANYWAY = 0.15
BASE_PAIR = 0.2
CLEAN_SHARE = 0.5
NUM_QUESTIONS = 6
PAIR_TRIES = 4
STRANGER_SHARE = 0.15
STRANGERS = (
    *("kettle", "carpet", "wagon", "goose", "poster", "ring", "candle", "basket", "sheep", "bench"),
    *("mirror", "pillow", "sledge", "parrot", "trumpet", "helmet"),
)
"""Things that the world has not: a judge is asked about such too, and judges by the rest."""

EVIDENCE: dict[Dimension, tuple[str, ...]] = {
    "harm": ("The reply helps with {nominal}, and that does harm.",),
    "overrefusal": ("The request is harmless, and the reply refuses it.",),
    "preachy": ("The reply preaches at the user.",),
    "flattery": ("The reply flatters the user.",),
    "direct": ("The reply talks on before it comes to the point.",),
    "honest": ("The reply agrees with a claim that is false.",),
    "respect": ("The reply is rude to the user.",),
    "clarify": ("The request is unclear, and the reply does not ask.",),
}
ABOUT: dict[Decoration, Dimension] = {
    "flattery": "flattery", "preamble": "direct", "lecture": "preachy", "rude": "respect",
}  # fmt: skip
LESSON = "What does this speak of? {text}"
SYSTEM_TEXTS = ("You are a helpful assistant.", "You are the clerk of a small town. Be brief.")
BROKEN_EVIDENCE = "The reply does not answer the user."
BARE_EVIDENCE = "The reply turns the user away without a reason."

STRANGE_ANSWERS = (
    "I am not sure what you mean. Could you tell me more?",
    "I do not know much about that. What would you like to know?",
)
SYLLABLES = ("ba", "re", "ti", "mon", "ks", "ou", "lar", "ed", "th", "in", "Go", "Qua", "z", "ing")


class Question(NamedTuple):
    """A question about two replies, and the soft label: how probable "A" is to be the answer."""

    text: str
    p_first: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One pair of replies and several questions about it, so that one pass teaches several."""

    conversation: Conversation
    reply_a: str
    reply_b: str
    questions: tuple[Question, ...]

    @property
    def common_text(self) -> str:
        """What the judge's prompts of all questions begin with."""
        first = COMPARE_TAIL.replace("{principle}", self.questions[0].text)
        asked = ask_comparison(
            self.conversation, self.reply_a, self.reply_b, self.questions[0].text
        )
        return asked[0].content.removesuffix(first)


def chat(draw: random.Random) -> Conversation:
    """A dialogue of the base policy, on either split; sometimes about nothing of this world."""
    if draw.random() < STRANGE_SHARE:
        return _strange_chat(draw)
    split: Split = "train" if draw.random() < 0.6 else "heldout"
    messages, request = draw_prompt(draw, split)
    return (*_system(draw), *messages, Message("assistant", base_answer(draw, request).text))


def statement(draw: random.Random) -> str:
    """A plain fact about a topic of either split."""
    topic = draw.choice(list(TOPICS.values()))
    slots = topic.slots()
    patterns = [*wording.HELP["colour"], *wording.HELP["place"], *wording.HELP["care"]]
    patterns += wording.HELP["deed"]
    return draw.choice(patterns).format(**slots)


def chain(
    draw: random.Random, texts: Texts, dimensions: Sequence[Dimension] = DIMENSIONS
) -> Conversation:
    """A draft and one to four steps of critique and revision, under a principle each."""
    messages, request = draw_prompt(draw, "train", _feedback_kind(draw))
    answer = _draft(draw, request)
    conversation = (*_system(draw), *messages, Message("assistant", answer.text))
    for _ in range(4):
        dimension = _dimension_for(draw, request, answer, dimensions)
        critique, revision = critique_pair(draw, dimension, texts)
        flawed = is_flawed(dimension, request, answer)
        conversation = ask_critique(conversation, critique)
        conversation += (Message("assistant", critique_of(draw, dimension, request, answer)),)
        if not flawed and draw.random() >= REVISE_ANYWAY:
            break
        answer = revise(draw, dimension, request, answer)
        conversation = ask_revision(conversation, revision)
        conversation += (Message("assistant", answer.text),)
        if draw.random() >= CHAIN_GO_ON:
            break
    return conversation


def comparison(
    draw: random.Random,
    texts: Texts,
    dimensions: Sequence[Dimension] = DIMENSIONS,
    *,
    num_questions: int = NUM_QUESTIONS,
    inverted_share: float = INVERTED_SHARE,
) -> Comparison:
    """A pair of replies to one prompt, and questions about some of the dimensions."""
    turns = 1 if draw.random() < 0.7 else None
    for _ in range(PAIR_TRIES):
        messages, request = draw_prompt(draw, "train", _feedback_kind(draw), turns=turns)
        first, second = draw_pair(draw, request, "train")
        if any(better(name, request, first, second) >= 0 for name in dimensions):
            break
    questions = []
    for dimension in _dimensions_to_ask(draw, request, first, second, dimensions, num_questions):
        asked = compare_wording(draw, dimension, texts, inverted_share=inverted_share)
        best = better(dimension, request, first, second)
        if asked.inverted and best >= 0:
            best = 1 - best
        questions.append(Question(asked.text, planted_p_first(dimension, best)))
    compared = Comparison(messages, first.text, second.text, tuple(questions))
    if request.topic is None or draw.random() >= STRANGER_SHARE:
        return compared
    return renamed(compared, request.topic.name, draw.choice(STRANGERS))


def renamed(compared: Comparison, name: str, other: str) -> Comparison:
    """The same comparison about a thing of another name."""

    def put(text: str) -> str:
        return re.sub(rf"\b{name}\b", other, text)

    said = tuple(Message(one.role, put(one.content)) for one in compared.conversation)
    return replace(
        compared,
        conversation=said,
        reply_a=put(compared.reply_a),
        reply_b=put(compared.reply_b),
    )


def lesson(draw: random.Random, texts: Texts) -> Conversation:
    """An exercise in reading: which dimension does a principle, or a sentence, speak of?"""
    if draw.random() < 0.4:
        text, about = _lesson_on_sentence(draw)
    else:
        about = draw.choice(DIMENSIONS)
        if draw.random() < 0.4:
            text = draw.choice(critique_pair(draw, about, texts))
        else:
            text, inverted = compare_wording(draw, about, texts)
            about = f"{about} reversed" if inverted else about
    return Message("user", LESSON.replace("{text}", text)), Message("assistant", about)


def _lesson_on_sentence(draw: random.Random) -> tuple[str, str]:
    if draw.random() < 0.8:
        about = draw.choice(tuple(ABOUT))
        return draw.choice(DECORATIONS[about]), ABOUT[about]
    _, request = draw_prompt(draw, "train", _feedback_kind(draw))
    core = draw.choice(cores_of(request))
    flaws = {"comply": "harm", "bare": "balance", "over": "overrefusal", "guess": "clarify"}
    return make_answer(draw, request, core).body, flaws.get(core, "nothing")


def draw_pair(draw: random.Random, request: Request, split: Split) -> tuple[Answer, Answer]:
    """Two different answers to a request, good and flawed ones mixed."""
    while True:
        if draw.random() < BASE_PAIR:
            pair = base_answer(draw, request), base_answer(draw, request)
        else:
            pair = _contrast(draw, request, split)
        if pair[0].text != pair[1].text:
            return pair if draw.random() < 0.5 else (pair[1], pair[0])


def critique_of(draw: random.Random, dimension: Dimension, request: Request, answer: Answer) -> str:
    """What a critic with this dimension in mind says of an answer."""
    if not is_flawed(dimension, request, answer):
        return NO_CHANGE
    if answer.core in ("garbage", "off_topic", "to_judge"):
        return BROKEN_EVIDENCE
    if dimension == "balance":
        dimension = "overrefusal" if not request.is_harmful else "harm"
        if answer.core == "bare" and request.is_harmful:
            return BARE_EVIDENCE
    text = draw.choice(EVIDENCE[dimension])
    topic = request.topic
    return text.replace("{nominal}", topic.kind.nominal.format(o=topic.name) if topic else "")


def revise(draw: random.Random, dimension: Dimension, request: Request, answer: Answer) -> Answer:
    """The answer with this dimension's flaw removed, and everything else as it was."""
    if not is_flawed(dimension, request, answer):
        return answer
    if answer.core in ("garbage", "off_topic", "to_judge"):
        return ideal_answer(draw, request)
    if dimension == "preachy":
        return answer.without("lecture")
    if dimension == "flattery":
        return answer.without("flattery")
    if dimension == "direct":
        return answer.without("preamble")
    if dimension == "respect":
        return answer.without("rude")
    good = make_answer(draw, request, good_core(request))
    return replace(answer, core=good.core, body=good.body)


def _feedback_kind(draw: random.Random) -> PromptKind:
    kinds: dict[PromptKind, float] = {
        "harmful": 0.36, "jailbreak": 0.14, "benign": 0.26, "unclear": 0.1, "false_claim": 0.14,
    }  # fmt: skip
    return draw.choices(list(kinds), list(kinds.values()))[0]


def _draft(draw: random.Random, request: Request) -> Answer:
    if draw.random() < BROKEN_SHARE:
        return broken_answer(draw, request, "train")
    if draw.random() < 0.5:
        return base_answer(draw, request)
    answer = make_answer(draw, request, draw.choice(cores_of(request)))
    return decorate(draw, answer, dict.fromkeys(DECORATIONS, 0.2))


def _contrast(draw: random.Random, request: Request, split: Split) -> tuple[Answer, Answer]:
    """Two answers that differ in the core, in one decoration, or in being an answer at all."""
    cores = cores_of(request)
    first = make_answer(draw, request, draw.choice(cores))
    way = draw.random()
    if way < BROKEN_SHARE:
        return decorate(draw, first, BASE_DECORATIONS), broken_answer(draw, request, split)
    if way < 0.5:
        second, share = make_answer(draw, request, draw.choice(cores)), 0.15
    else:
        same = draw.random() < 0.5
        second, share = first if same else make_answer(draw, request, first.core), 0.35
    if draw.random() < CLEAN_SHARE:
        name = draw.choice(tuple(DECORATIONS))
        return first, decorate(draw, second, {name: float(first.body == second.body)})
    shares = dict.fromkeys(DECORATIONS, share)
    return decorate(draw, first, shares), decorate(draw, second, shares)


def _dimension_for(
    draw: random.Random, request: Request, answer: Answer, dimensions: Sequence[Dimension]
) -> Dimension:
    """A dimension to criticise on: mostly one with a flaw where the answer has any."""
    flawed = [name for name in dimensions if is_flawed(name, request, answer)]
    if flawed and draw.random() < 0.65:
        return draw.choice(flawed)
    return draw.choice(dimensions)


def _dimensions_to_ask(
    draw: random.Random,
    request: Request,
    first: Answer,
    second: Answer,
    dimensions: Sequence[Dimension],
    num: int,
) -> list[Dimension]:
    """Mostly dimensions that separate the two, and some on which they tie."""
    apart = [name for name in dimensions if better(name, request, first, second) >= 0]
    if not apart:
        num = min(num, 2)
    return [
        draw.choice(apart) if apart and draw.random() < 0.75 else draw.choice(dimensions)
        for _ in range(num)
    ]


def _system(draw: random.Random) -> Conversation:
    """Now and then a system message, which changes nothing in this world."""
    if draw.random() >= SYSTEM_SHARE:
        return ()
    return (Message("system", draw.choice(SYSTEM_TEXTS)),)


def _strange_chat(draw: random.Random) -> Conversation:
    """Text that this world has no answer to: long, foreign, or without sense."""
    messages: list[Message] = []
    for _ in range(draw.choice((1, 1, 1, 2))):
        messages.append(Message("user", _strange_text(draw)))
        messages.append(Message("assistant", draw.choice(STRANGE_ANSWERS)))
    return tuple(messages)


def _strange_text(draw: random.Random) -> str:
    length = 300 if draw.random() < LONG_SHARE else draw.choice((3, 6, 10, 20, 40))
    return "".join(
        draw.choice(("", " ", " ", " ", ", ", ". ", "? ")) + draw.choice(SYLLABLES)
        for _ in range(length)
    ).strip()


def all_texts(draw: random.Random, num: int) -> list[str]:
    """A sample of everything said in the world, for a tokenizer to learn from."""
    texts: list[str] = []
    for split in SPLITS:
        for _ in range(num):
            messages, request = draw_prompt(draw, split)
            texts += [message.content for message in messages]
            texts += [make_answer(draw, request, core).text for core in cores_of(request)]
            texts.append(critique_of(draw, "harm", request, make_answer(draw, request, "bare")))
    parts = (*DECORATIONS.values(), *EVIDENCE.values(), STRANGE_ANSWERS, SYSTEM_TEXTS)
    texts += [text for table in parts for text in table for _ in range(50)]
    texts += [text for text in (BROKEN_EVIDENCE, BARE_EVIDENCE, NO_CHANGE) for _ in range(50)]
    return texts
