"""The tables of the appointments, and how a database comes to have them."""

from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    column,
    inspect,
    select,
    table,
)

from signaling.appointments import APPOINTMENT_ID_BYTES, ROOM_ID_BYTES

HEAD: Final = "0003"  # the newest step in migrations/versions
MIGRATIONS: Final = Path(__file__).parent / "migrations"
HASH_BYTES: Final = 32

METADATA: Final = MetaData()
APPOINTMENTS: Final = Table(
    "appointment",
    METADATA,
    Column("id", LargeBinary(APPOINTMENT_ID_BYTES), primary_key=True),
    Column("room_id", LargeBinary(ROOM_ID_BYTES), nullable=False),
    Column("organisation_hash", LargeBinary(HASH_BYTES), nullable=True),  # none: made on the command line
    Column("tier", String(16), nullable=False),
    Column("start_unix", BigInteger, nullable=False),
    Column("participants", SmallInteger, nullable=False, server_default="1"),
    Index("appointment_start_unix", "start_unix"),
    Index("appointment_organisation", "organisation_hash", "start_unix", "id"),
)
SEATS: Final = Table(
    "seat",
    METADATA,
    Column("locator_hash", LargeBinary(HASH_BYTES), primary_key=True),
    Column(
        "appointment_id",
        LargeBinary(APPOINTMENT_ID_BYTES),
        ForeignKey("appointment.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("role", String(16), nullable=False),
    Column("number", SmallInteger, nullable=False, server_default="0"),
    Index("seat_appointment_id", "appointment_id"),
)
_VERSION: Final = table("alembic_version", column("version_num", String))


class UnknownSchema(Exception):
    """The database has a shape that this version does not know, probably that of a newer one."""


def is_current(connection: Connection) -> bool:
    """Whether the database has the tables as this version wants them."""
    if not inspect(connection).has_table(_VERSION.name):
        return False
    return connection.execute(select(_VERSION.c.version_num)).scalars().all() == [HEAD]


def migrate(connection: Connection) -> None:
    """Take every step that the database has not taken yet, in the transaction of the connection.

    Raises:
        UnknownSchema: it has taken a step that is not among ours.
        SQLAlchemyError: the database failed.
    """
    # Here, because it is needed once in the life of a database and costs every start of a command 60 ms.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UnknownSchema(str(error)) from error
