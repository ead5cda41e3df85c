"""What Alembic runs the migrations in: the connection (and transaction) of :meth:`Database.migrate`."""

from __future__ import annotations

from alembic import context

from buildkit.service.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
