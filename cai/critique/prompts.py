"""The words in which a model is asked to critique and to revise its own last answer.

Both requests are turns of the same conversation, so that each prompt extends the one before it
token for token and the prefix cache serves the shared part. Method: Bai et al. 2022,
"Constitutional AI" (arXiv 2212.08073), section 3; the wording is ours.
"""

from __future__ import annotations

from cai.files import digest_json
from cai.types import Conversation, Message

CRITIQUE = (
    "{principle}\n\n"
    "Write only the critique of your last reply, in one to three sentences. "
    "If the reply needs no change, write: No change needed."
)
REVISION = "{principle}\n\nWrite only the new reply, as you would say it to the user."

DIGEST = digest_json([CRITIQUE, REVISION])


def ask_critique(conversation: Conversation, principle_critique: str) -> Conversation:
    """`conversation` ends with the answer to be critiqued; the result asks for its critique."""
    return (*conversation, Message("user", CRITIQUE.replace("{principle}", principle_critique)))


def ask_revision(conversation: Conversation, principle_revision: str) -> Conversation:
    """`conversation` ends with a critique; the result asks for the revised answer."""
    return (*conversation, Message("user", REVISION.replace("{principle}", principle_revision)))
