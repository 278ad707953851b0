"""Policies with their events, the A/B split, and people's feedback."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the tables."""
    _make_policies()
    _make_policy_events()
    _make_traffic()
    _make_feedback()


def downgrade() -> None:
    """Refused: an older program has no place for what newer tables hold."""
    raise NotImplementedError("the schema only goes forward; restore a backup to go back")


def _make_policies() -> None:
    op.create_table(
        "policies",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("manifest_digest", sa.String(80), nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("base_digest", sa.String(80)),
        sa.Column("parent", sa.String(128)),
        sa.Column("parent_digest", sa.String(80)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("origin", sa.JSON, nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("updated_at", sa.String(40), nullable=False),
        sa.CheckConstraint(
            "state IN ('candidate', 'verified', 'live', 'retired', 'rejected')",
            name="policies_state",
        ),
        sa.UniqueConstraint("id", name="policies_id"),
        sa.UniqueConstraint("digest", "manifest_digest", name="policies_content"),
    )
    is_live = sa.text("state = 'live'")
    op.create_index(
        "policies_one_live",
        "policies",
        ["state"],
        unique=True,
        sqlite_where=is_live,
        postgresql_where=is_live,
    )


def _make_policy_events() -> None:
    op.create_table(
        "policy_events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("policy_id", sa.String(128), sa.ForeignKey("policies.id"), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("from_state", sa.String(16)),
        sa.Column("to_state", sa.String(16), nullable=False),
        sa.Column("is_rollback", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
    op.create_index("ix_policy_events_policy_id", "policy_events", ["policy_id"])


def _make_traffic() -> None:
    op.create_table(
        "traffic",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("split", sa.JSON, nullable=False),
    )


def _make_feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(128), nullable=False, unique=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("response", sa.Text, nullable=False),
        sa.Column("thumbs", sa.String(8)),
        sa.Column("rating", sa.Integer),
        sa.Column("better", sa.Text),
        sa.Column("policy_id", sa.Text),
        sa.Column("arm", sa.String(128)),
        sa.Column("user_digest", sa.String(80)),
        sa.Column("actor", sa.String(128)),
    )
    for column in ("policy_id", "arm"):
        op.create_index(f"ix_feedback_{column}", "feedback", [column])
