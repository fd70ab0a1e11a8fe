"""Appointments may have several participants; their seats are numbered, the organiser's is 0."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SEATS = sa.table("seat", sa.column("role", sa.String), sa.column("number", sa.SmallInteger))


def upgrade() -> None:
    """Add both numbers; appointments that are there have one participant."""
    op.add_column("appointment", sa.Column("participants", sa.SmallInteger, nullable=False, server_default="1"))
    op.add_column("seat", sa.Column("number", sa.SmallInteger, nullable=False, server_default="0"))
    op.execute(_SEATS.update().where(_SEATS.c.role == "participant").values(number=1))
