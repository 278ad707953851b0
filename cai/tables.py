"""The tables, as SQLAlchemy knows them. The schema itself is made by `cai/migrations/`.

Times are UTC in ISO form with milliseconds, so that they sort as text. Start from `METADATA`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA: Final = MetaData()
"""Every table."""

_NAME = String(128)
_DIGEST = String(80)
_TIME = String(40)

policies: Final = Table(
    "policies",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", _NAME, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("method", String(16), nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("manifest_digest", _DIGEST, nullable=False),
    Column("folder", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("base_digest", _DIGEST),
    Column("parent", _NAME),
    Column("parent_digest", _DIGEST),
    Column("state", String(16), nullable=False),
    Column("origin", JSON, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    CheckConstraint(
        "state IN ('candidate', 'verified', 'live', 'retired', 'rejected')", name="policies_state"
    ),
    UniqueConstraint("id", name="policies_id"),
    UniqueConstraint("digest", "manifest_digest", name="policies_content"),
)
"""One line per policy. `origin` is its manifest without files, tensors and probes."""

Index(
    "policies_one_live",
    policies.c.state,
    unique=True,
    sqlite_where=text("state = 'live'"),
    postgresql_where=text("state = 'live'"),
)

policy_events: Final = Table(
    "policy_events",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("policy_id", _NAME, ForeignKey("policies.id"), nullable=False, index=True),
    Column("at", _TIME, nullable=False),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("is_rollback", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("figures", JSON, nullable=False),
)
"""One line per transition, and per remark that changed no state; never changed."""

traffic: Final = Table(
    "traffic",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("at", _TIME, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("split", JSON, nullable=False),
)
"""One line per A/B split that was set; the last one counts."""

feedback: Final = Table(
    "feedback",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", _NAME, nullable=False, unique=True),
    Column("at", _TIME, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("response", Text, nullable=False),
    Column("thumbs", String(8)),
    Column("rating", Integer),
    Column("better", Text),
    Column("policy_id", Text, index=True),
    Column("arm", _NAME, index=True),
    Column("user_digest", _DIGEST),
    Column("actor", _NAME),
)
"""One line per judgement that a person sent; never changed."""

jobs: Final = Table(
    "jobs",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", _NAME, nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("params", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("auto_promote", JSON, nullable=False),
    Column("target", _NAME),
    Column("actor", _NAME, nullable=False),
    Column("request_key", _DIGEST, unique=True),
    Column("request_digest", _DIGEST),
    Column("created_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    Column("attempts", Integer, nullable=False),
    Column("is_cancelling", Boolean, nullable=False),
    Column("worker", _NAME),
    Column("progress", JSON, nullable=False),
    Column("result", JSON),
    Column("error", Text),
    CheckConstraint(
        "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="jobs_state"
    ),
)
"""One line per job. `target` is what it writes; `request_key` the digest of its Idempotency-Key."""

_IS_ACTIVE = text("state IN ('queued', 'running')")
Index(
    "jobs_one_writer",
    jobs.c.target,
    unique=True,
    sqlite_where=_IS_ACTIVE,
    postgresql_where=_IS_ACTIVE,
)

job_events: Final = Table(
    "job_events",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("job_id", _NAME, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", _TIME, nullable=False),
    Column("type", String(32), nullable=False),
    Column("data", JSON, nullable=False),
)
"""One line per thing that happened to a job; never changed."""

job_workers: Final = Table(
    "job_workers",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("machine", _NAME, nullable=False),
    Column("mark", _NAME, nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Column("has_ended", Boolean, nullable=False),
)
"""One line per worker that may still have jobs: its machine's boot, its process, its last sign."""

review_items: Final = Table(
    "review_items",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", _NAME, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("at", _TIME, nullable=False),
    Column("actor", _NAME, nullable=False),
    Column("source", Text, nullable=False),
    Column("prompt", JSON, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("policies", JSON, nullable=False),
    Column("opinions", JSON, nullable=False),
    Column("origin", JSON, nullable=False),
    Column("p_a", Float(53)),
    Column("priority", Float(53), nullable=False),
    Column("place", Float(53), nullable=False),
    Column("is_random", Boolean, nullable=False),
    Column("target", Integer, nullable=False),
    Column("num_decided", Integer, nullable=False),
    CheckConstraint("kind IN ('pair', 'rating')", name="review_items_kind"),
    Index("review_items_order", "is_random", "priority", "place"),
)
"""One line per thing that people are asked about. `place` is its hash, `p_a` the judge's view."""

review_decisions: Final = Table(
    "review_decisions",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", _NAME, nullable=False, unique=True),
    Column("item_id", _NAME, ForeignKey("review_items.id"), nullable=False),
    Column("rater", _NAME, nullable=False, index=True),
    Column("at", _TIME, nullable=False),
    Column("choice", String(16), nullable=False),
    Column("rating", Integer),
    Column("comment", Text),
    Column("is_swapped", Boolean, nullable=False),
    CheckConstraint(
        "choice IN ('a', 'b', 'tie', 'rating', 'skip')", name="review_decisions_choice"
    ),
    UniqueConstraint("item_id", "rater", name="review_decisions_once"),
)
"""One line per answer of a rater; `choice` names the item's own sides, however they were shown."""

review_leases: Final = Table(
    "review_leases",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("item_id", _NAME, ForeignKey("review_items.id"), nullable=False),
    Column("rater", _NAME, nullable=False),
    Column("until", Float(53), nullable=False),
    UniqueConstraint("item_id", "rater", name="review_leases_once"),
)
"""One line per item that a rater has before them; `until` is in seconds since 1970."""
