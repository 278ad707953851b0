"""The words in which a judge is asked to think before it answers: chain of thought, then a letter.

Costs a generation per order, where the plain question costs one prefill. Labels read after it are
clamped, since reasoning makes them overconfident (Bai et al. 2022, arXiv 2212.08073, section 4).
"""

from __future__ import annotations

from cai.feedback.prompts import COMPARE_HEAD, COMPARE_TAIL, ask_comparison
from cai.files import digest_json
from cai.types import Conversation, Message

REASON = (
    "Say in at most three sentences how each reply does by this. Do not name a winner yet. "
    "You will be asked for one letter next."
)
CLOSE = "Now answer with one letter: A or B."

DIGEST = digest_json([COMPARE_HEAD, COMPARE_TAIL, REASON, CLOSE])


def ask_reasoning(
    conversation: Conversation, reply_a: str, reply_b: str, principle_compare: str
) -> Conversation:
    """Ask how two replies do by a principle, without a verdict."""
    question = f"{principle_compare}\n{REASON}"
    asked = ask_comparison(conversation, reply_a, reply_b, question)
    tail = COMPARE_TAIL.replace("{principle}", question)
    return (Message("user", asked[0].content.removesuffix(tail) + question),)


def ask_letter(asked: Conversation, reasoning: str) -> Conversation:
    """After the reasoning, ask for the letter."""
    return (*asked, Message("assistant", reasoning), Message("user", CLOSE))


def reasoning_text(raw: str) -> str:
    """What was said, without think tags: a judge's thoughts are its reasoning either way."""
    return raw.replace("<think>", "").replace("</think>", "\n").strip()
