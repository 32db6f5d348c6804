"""Adds the column `log2_lately` to `popularity`: the sum of an item's recent votes. The store
counts it from the log when it is next opened."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    lately = sa.Column("log2_lately", sa.Float(), nullable=False, server_default="0")
    op.add_column("popularity", lately)
    op.create_index("most_lately", "popularity", ["log2_lately"])
