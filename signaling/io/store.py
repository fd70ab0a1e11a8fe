"""The appointments on disk: keyed hashes of locators, and nothing that names anybody."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    event,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateIndex, CreateTable

from signaling.appointments import ROOM_ID_BYTES, Appointment, Role, Seat, Tier
from signaling.codes import LOCATOR_BITS, locator_from

MIN_KEY_BYTES = 32
MAX_DRAWS = 8  # a billion locators: even eight collisions in a row mean a broken source of entropy

_METADATA = MetaData()
_SEATS = Table(
    "seat",
    _METADATA,
    Column("locator_hash", LargeBinary(32), primary_key=True),
    Column("room_id", LargeBinary(ROOM_ID_BYTES), nullable=False),
    Column("role", String(16), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("start_unix", BigInteger, nullable=False),
)
_BY_START = Index("seat_start_unix", _SEATS.c.start_unix)


class StoreError(Exception):
    """The database did not do what it was asked to."""


class NewAppointment(NamedTuple):
    """A stored appointment and its two locators, which can never be read back."""

    appointment: Appointment
    organiser_locator: str
    participant_locator: str


def draw_locator() -> str:
    """Draw a locator from the system's entropy."""
    return locator_from(secrets.randbits(LOCATOR_BITS))


class AppointmentStore:
    """Appointments behind SQLAlchemy: SQLite for one machine, any other database for several.

    Who reads the file without the server key learns how many appointments there are and when.
    """

    def __init__(self, url: str, key: bytes, *, draw: Callable[[], str] = draw_locator) -> None:
        """Prepare the store; nothing is opened before `open`.

        Args:
            url: SQLAlchemy URL with an asyncio driver, such as `sqlite+aiosqlite:///var/appointments.db`.
            key: the server key, at least 32 bytes. With another key, every code is unknown.
            draw: draws a locator.

        Raises:
            ValueError: the key is too short.
        """
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the server key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed")
        self._key = key
        self._draw = draw
        self._url = make_url(url)
        # Parameters are hashes of locators: no log line or traceback may show them.
        self._engine: AsyncEngine = create_async_engine(self._url, hide_parameters=True)
        if self._url.get_backend_name() == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)

    async def open(self) -> None:
        """Create the file (mode 0600) and the table where they are absent.

        Raises:
            StoreError: the database cannot be reached or written.
        """
        path = self._url.database
        try:
            if self._url.get_backend_name() == "sqlite" and path and path != ":memory:":
                _make_private(Path(path))
            async with self._engine.begin() as connection:
                await connection.execute(CreateTable(_SEATS, if_not_exists=True))
                await connection.execute(CreateIndex(_BY_START, if_not_exists=True))
        except (OSError, SQLAlchemyError) as error:
            raise StoreError("the appointment store cannot be opened") from error

    async def create(self, start: datetime, tier: Tier = Tier.BASIS) -> NewAppointment:
        """Store an appointment with two fresh locators.

        The secret of its codes is drawn by the caller and never comes near a store.

        Args:
            start: planned start, an aware instant; kept to the second.
            tier: what the organisation has booked.

        Raises:
            StoreError: the database failed, or no free locator was found.
        """
        appointment = Appointment(secrets.token_bytes(ROOM_ID_BYTES), tier, start.replace(microsecond=0))
        for _ in range(MAX_DRAWS):
            organiser, participant = self._draw(), self._draw()
            if organiser == participant:
                continue
            rows = [
                self._row(organiser, appointment, Role.ORGANISER),
                self._row(participant, appointment, Role.PARTICIPANT),
            ]
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(insert(_SEATS), rows)
            except IntegrityError:
                continue  # a locator is taken: draw both anew
            except SQLAlchemyError as error:
                raise StoreError("the appointment cannot be stored") from error
            return NewAppointment(appointment, organiser, participant)
        raise StoreError(f"no free locator in {MAX_DRAWS} draws")

    async def find(self, locator: str) -> Seat | None:
        """Find the seat that a locator leads to, whatever the time.

        Raises:
            StoreError: the database failed.
        """
        query = select(_SEATS).where(_SEATS.c.locator_hash == self._hash(locator))
        try:
            async with self._engine.connect() as connection:
                row = (await connection.execute(query)).mappings().one_or_none()
        except SQLAlchemyError as error:
            raise StoreError("the appointments cannot be read") from error
        if row is None:
            return None
        start = datetime.fromtimestamp(row["start_unix"], UTC)
        return Seat(Appointment(row["room_id"], Tier(row["tier"]), start), Role(row["role"]))

    async def delete_started_before(self, instant: datetime) -> int:
        """Delete the appointments with an earlier planned start. Returns how many seats they had.

        Raises:
            StoreError: the database failed, or somebody reads it for so long that the deleted rows stay in its log.
        """
        statement = delete(_SEATS).where(_SEATS.c.start_unix < int(instant.timestamp()))
        try:
            async with self._engine.begin() as connection:
                deleted = (await connection.execute(statement)).rowcount
            if self._url.get_backend_name() == "sqlite":
                await self._empty_log()
        except SQLAlchemyError as error:
            raise StoreError("old appointments cannot be deleted") from error
        return deleted

    async def close(self) -> None:
        """Close every connection to the database."""
        await self._engine.dispose()

    async def _empty_log(self) -> None:
        """Take the write-ahead log into the database and cut it off: it still holds the rows as they were."""
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            busy = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).scalar_one()
        if busy:
            raise StoreError("deleted appointments stay in the write-ahead log for now")

    def _row(self, locator: str, appointment: Appointment, role: Role) -> dict[str, bytes | str | int]:
        return {
            "locator_hash": self._hash(locator),
            "room_id": appointment.room_id,
            "role": role.value,
            "tier": appointment.tier.value,
            "start_unix": int(appointment.start.timestamp()),
        }

    def _hash(self, locator: str) -> bytes:
        return hmac.digest(self._key, locator.encode(), hashlib.sha256)


def _make_private(path: Path) -> None:
    """Give the file to its owner alone, before SQLite makes it (and its WAL, which inherits the mode)."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


def _configure_sqlite(connection: SqliteConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=WAL")  # the command line writes while the service reads
        cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
    finally:
        cursor.close()
