"""Runs the migrations on the connection that `Store` hands over, inside its transaction."""

from alembic import context

from service.store import (
    events,
    keys,
    nulls,
    popularity,
    rankings,
    shadows,
    spendings,
    trainings,
    users,
)
from service.store.database import metadata

TABLES = (
    events,
    keys,
    nulls,
    popularity,
    rankings,
    shadows,
    spendings,
    trainings,
    users,
)  # their import fills the metadata
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
