"""Jobs with their events, and the workers that run them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the tables."""
    _make_jobs()
    _make_job_events()
    _make_job_workers()


def downgrade() -> None:
    """Refused: an older program has no place for what newer tables hold."""
    raise NotImplementedError("the schema only goes forward; restore a backup to go back")


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(128), nullable=False, unique=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("auto_promote", sa.JSON, nullable=False),
        sa.Column("target", sa.String(128)),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("request_key", sa.String(80), unique=True),
        sa.Column("request_digest", sa.String(80)),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("started_at", sa.String(40)),
        sa.Column("ended_at", sa.String(40)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("is_cancelling", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(128)),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("error", sa.Text),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name="jobs_state",
        ),
    )
    is_active = sa.text("state IN ('queued', 'running')")
    op.create_index(
        "jobs_one_writer",
        "jobs",
        ["target"],
        unique=True,
        sqlite_where=is_active,
        postgresql_where=is_active,
    )


def _make_job_events() -> None:
    op.create_table(
        "job_events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.String(128), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index("ix_job_events_job_id", "job_events", ["job_id"])


def _make_job_workers() -> None:
    op.create_table(
        "job_workers",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("machine", sa.String(128), nullable=False),
        sa.Column("mark", sa.String(128), nullable=False),
        sa.Column("started_at", sa.String(40), nullable=False),
        sa.Column("seen_at", sa.Float(53), nullable=False),
        sa.Column("has_ended", sa.Boolean, nullable=False),
    )
