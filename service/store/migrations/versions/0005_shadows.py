"""Adds the table `shadows`: the rankings that shadow models made."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "shadows",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("ranking_id", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ranking", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("ranking_id", "alias"),
    )
    op.create_index("shadows_of", "shadows", ["who"], unique=False)
