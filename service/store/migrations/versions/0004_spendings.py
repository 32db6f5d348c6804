"""Adds the table `spendings` (dollars by day, model and key) and each key's budget."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "spendings",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("dollars", sa.Float(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "alias", "key_id"),
    )
    op.add_column("keys", sa.Column("budget", sa.Float(), nullable=True))
