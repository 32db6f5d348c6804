"""Runs the migrations on the connection that `Store` hands over, inside its transaction."""

from alembic import context

from service.store.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
