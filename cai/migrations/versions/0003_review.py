"""What people are asked about, what they answered, and who has what before them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Make the tables."""
    _make_items()
    _make_decisions()
    _make_leases()


def downgrade() -> None:
    """Refused: an older program has no place for what newer tables hold."""
    raise NotImplementedError("the schema only goes forward; restore a backup to go back")


def _make_items() -> None:
    op.create_table(
        "review_items",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(128), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.JSON, nullable=False)
            for name in ("prompt", "answers", "policies", "opinions", "origin")
        ),
        sa.Column("p_a", sa.Float(53)),
        sa.Column("priority", sa.Float(53), nullable=False),
        sa.Column("place", sa.Float(53), nullable=False),
        sa.Column("is_random", sa.Boolean, nullable=False),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("num_decided", sa.Integer, nullable=False),
        sa.CheckConstraint("kind IN ('pair', 'rating')", name="review_items_kind"),
    )
    op.create_index("review_items_order", "review_items", ["is_random", "priority", "place"])


def _make_decisions() -> None:
    op.create_table(
        "review_decisions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(128), nullable=False, unique=True),
        _of_item(),
        sa.Column("rater", sa.String(128), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("choice", sa.String(16), nullable=False),
        sa.Column("rating", sa.Integer),
        sa.Column("comment", sa.Text),
        sa.Column("is_swapped", sa.Boolean, nullable=False),
        sa.CheckConstraint(
            "choice IN ('a', 'b', 'tie', 'rating', 'skip')", name="review_decisions_choice"
        ),
        sa.UniqueConstraint("item_id", "rater", name="review_decisions_once"),
    )
    op.create_index("ix_review_decisions_rater", "review_decisions", ["rater"])


def _make_leases() -> None:
    op.create_table(
        "review_leases",
        sa.Column("seq", sa.Integer, primary_key=True),
        _of_item(),
        sa.Column("rater", sa.String(128), nullable=False),
        sa.Column("until", sa.Float(53), nullable=False),
        sa.UniqueConstraint("item_id", "rater", name="review_leases_once"),
    )


def _of_item() -> sa.Column[str]:
    return sa.Column("item_id", sa.String(128), sa.ForeignKey("review_items.id"), nullable=False)
