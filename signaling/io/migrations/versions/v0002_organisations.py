"""Appointments get a row of their own, with an id that is not the room's and the organisation that made them."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OLD_SEATS = sa.table(
    "seat",
    sa.column("locator_hash", sa.LargeBinary),
    sa.column("room_id", sa.LargeBinary),
    sa.column("role", sa.String),
    sa.column("tier", sa.String),
    sa.column("start_unix", sa.BigInteger),
)


def upgrade() -> None:
    """Split the table in two; appointments that are there keep their codes and belong to no organisation.

    The rows are those of a few days, so they fit the memory.
    """
    rows = op.get_bind().execute(sa.select(_OLD_SEATS)).mappings().all()
    op.drop_index("seat_start_unix", "seat")
    op.drop_table("seat")
    appointments = op.create_table(
        "appointment",
        sa.Column("id", sa.LargeBinary(16), primary_key=True),
        sa.Column("room_id", sa.LargeBinary(16), nullable=False),
        sa.Column("organisation_hash", sa.LargeBinary(32), nullable=True),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("start_unix", sa.BigInteger, nullable=False),
    )
    op.create_index("appointment_start_unix", "appointment", ["start_unix"])
    op.create_index("appointment_organisation", "appointment", ["organisation_hash", "start_unix", "id"])
    seats = op.create_table(
        "seat",
        sa.Column("locator_hash", sa.LargeBinary(32), primary_key=True),
        sa.Column(
            "appointment_id", sa.LargeBinary(16), sa.ForeignKey("appointment.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("role", sa.String(16), nullable=False),
    )
    op.create_index("seat_appointment_id", "seat", ["appointment_id"])
    if not rows:
        return
    planned = {
        row["room_id"]: {"room_id": row["room_id"], "tier": row["tier"], "start_unix": row["start_unix"]}
        for row in rows
    }
    ids = {room_id: secrets.token_bytes(16) for room_id in planned}
    op.bulk_insert(appointments, [{"id": ids[room_id], **values} for room_id, values in planned.items()])
    op.bulk_insert(
        seats,
        [
            {"locator_hash": row["locator_hash"], "appointment_id": ids[row["room_id"]], "role": row["role"]}
            for row in rows
        ],
    )
