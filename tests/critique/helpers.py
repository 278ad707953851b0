"""A model that answers drafts, critiques and revisions from lists, and a toy constitution."""

import re

from cai.constitution.schema import Constitution
from cai.engine.scripted import ScriptedEngine
from cai.types import Message, Sampling

ASK = (Message("user", "How do I boil an egg?"),)
TURNS = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello."),
    *ASK,
)
PRINCIPLES = [
    {"id": name, "critique": f"Is it {name}? [critique]", "revision": f"Make it {name}. [revision]"}
    for name in ("kind", "short", "true")
]
ONLY_COMPARES = {"id": "judge-only", "compare": "Which is better?"}
CRITIQUE, REVISION = "It is rude.", "Seven minutes, please."


def constitution(*principles, **more) -> Constitution:
    return Constitution.model_validate(
        {
            "name": "toy",
            "version": 1,
            "title": "Toy",
            "principles": principles or PRINCIPLES,
            **more,
        }
    )


TOY = constitution()


class Model:
    """Answers drafts, critiques and revisions from lists (the last one for ever)."""

    def __init__(self, drafts=("Seven minutes.",), critiques=(CRITIQUE,), revisions=(REVISION,)):
        self.answers = {"draft": drafts, "critique": critiques, "revision": revisions}
        self.asked: list[tuple[Message, ...]] = []
        self.samplings: list[Sampling] = []
        self.counts = dict.fromkeys(self.answers, 0)
        self.engine = ScriptedEngine(self.answer)

    def answer(self, prompt, sampling) -> str:
        self.asked.append(prompt.messages)
        self.samplings.append(sampling)
        kind = kind_of(prompt.messages)
        answers = self.answers[kind]
        found = answers[min(self.counts[kind], len(answers) - 1)]
        self.counts[kind] += 1
        if isinstance(found, Exception):
            raise found
        return found


def kind_of(messages) -> str:
    found = re.search(r"\[(critique|revision)\]", messages[-1].content)
    return found[1] if found else "draft"
