"""The table of seats, as it was before there were migrations; a database of that time has it already."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create what is absent."""
    op.create_table(
        "seat",
        sa.Column("locator_hash", sa.LargeBinary(32), primary_key=True),
        sa.Column("room_id", sa.LargeBinary(16), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("start_unix", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("seat_start_unix", "seat", ["start_unix"], if_not_exists=True)
