"""The first tables. What a later version changes gets a file of its own; this one stays as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

_ACTIVE = sa.text("status IN ('queued', 'running')")
_RUNNING = sa.text("status = 'running'")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "builds",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("recipe", sa.String(64), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("started", sa.String(32)),
        sa.Column("ended", sa.String(32)),
        sa.Column("key", sa.String(128)),
        sa.Column("build", sa.String(128)),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("tries", sa.JSON, nullable=False),
        sa.Column("place", sa.String(64)),
        sa.Column("worker", sa.String(64)),
        sa.Column("lease", sa.Float, nullable=False),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("grade", sa.String(16)),
        sa.Column("version", sa.String(128)),
        sa.Column("exit_code", sa.Integer),
        sa.Column("error", sa.JSON),
        sa.Column("plan", sa.JSON),
        sa.Column("answer", sa.JSON),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("builds_status", "builds", ["status", "priority", "seq"])
    op.create_index("builds_recipe", "builds", ["recipe", "seq"])
    for name, column, only in (("builds_one_asked", "fingerprint", _ACTIVE), ("builds_one_key", "key", _RUNNING)):
        op.create_index(name, "builds", [column], unique=True, sqlite_where=only, postgresql_where=only)
    op.create_table(
        "asked",
        sa.Column("requested_by", sa.String(64), primary_key=True),
        sa.Column("idempotency", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("build", sa.String(32), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("boot", sa.String(64), nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("started", sa.String(32), nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Nothing goes back: serve an older database's copy with the older version."""
    raise NotImplementedError
