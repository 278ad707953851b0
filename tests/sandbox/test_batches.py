"""What a step learns from: which tokens of a chain count, and when a dimension joins."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from cai.constitution.store import ConstitutionStore
from cai.sandbox.batches import LEARNING, POLISHING, Curriculum, _chain_row
from cai.sandbox.dimensions import DIMENSIONS
from cai.sandbox.manifest import MODEL_DIR
from cai.sandbox.principles import texts_of
from cai.sandbox.tokenizer import ASSISTANT, END, Encoder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json")))


def test_a_polished_chain_leaves_its_draft_out(encoder: Encoder) -> None:
    """The first answer of a chain counts while learning; only what follows it in polishing."""
    texts = texts_of([ConstitutionStore(ROOT / "constitutions").get("harmless@2")])
    make = partial(_chain_row, encoder=encoder, texts=texts, known=DIMENSIONS)
    for seed in range(20):
        whole = make(random.Random(seed), learns_draft=LEARNING.learns_drafts)
        tail = make(random.Random(seed), learns_draft=POLISHING.learns_drafts)
        assert whole.ids == tail.ids
        answers = _spans(tail.ids, encoder)
        assert all(whole.learn[start] for start in answers)
        assert [tail.learn[start] for start in answers][-1]
        assert not all(tail.learn[start] for start in answers)
        assert sum(tail.learn) < sum(whole.learn)


def _spans(ids: list[int], encoder: Encoder) -> list[int]:
    """Where each of the assistant's turns begins."""
    assert encoder.ids[END] in ids
    return [place + 1 for place, one in enumerate(ids) if one == encoder.ids[ASSISTANT]]


def test_a_dimension_joins_when_those_before_are_learnt() -> None:
    """The running loss starts at 1 and moves a tenth of the way: 0.9^18 = 0.15 at zero losses."""
    curriculum = Curriculum()
    for _ in range(18):
        curriculum.observe(0.0)
    assert curriculum.num_known == 1
    curriculum.observe(0.0)
    assert (curriculum.num_known, curriculum.inverts) == (2, False)
    assert Curriculum(is_over=True).known == DIMENSIONS
