"""The first tables: users, events, popularity, rankings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_events_and_popularity()
    _create_rankings_and_users()


def _create_events_and_popularity() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("ranking_id", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("who", "event_id"),
    )
    op.create_index("events_in_order", "events", ["who", "occurred_at", "seq"], unique=False)
    op.create_table(
        "notes",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "popularity",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("log2_votes", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("item_id"),
    )
    op.create_index("most_popular", "popularity", ["log2_votes"], unique=False)


def _create_rankings_and_users() -> None:
    op.create_table(
        "rankings",
        sa.Column("ranking_id", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=True),
        sa.Column("shown_at", sa.BigInteger(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("state_version", sa.Integer(), nullable=False),
        sa.Column("ranking", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("ranking_id"),
    )
    op.create_index("rankings_of", "rankings", ["who", "shown_at"], unique=False)
    op.create_table(
        "users",
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("allow_hosted", sa.Boolean(), nullable=False),
        sa.Column("profile", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("who"),
    )
