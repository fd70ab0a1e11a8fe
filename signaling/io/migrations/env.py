"""Alembic executes this file. The connection is the store's, inside a transaction that the store ends."""

from alembic import context

from signaling.io.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
