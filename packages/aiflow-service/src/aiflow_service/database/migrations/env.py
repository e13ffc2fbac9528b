"""Alembic's door: runs migrations on the connection that :mod:`aiflow_service.database.migration` has opened."""

from __future__ import annotations

from alembic import context

from aiflow_service.database.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
