"""The appointments on disk: keyed hashes of locators, and nothing that names anybody."""

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    event,
    func,
    insert,
    make_url,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from signaling.appointments import (
    APPOINTMENT_ID_BYTES,
    ROOM_ID_BYTES,
    Appointment,
    PlannedAppointment,
    Role,
    Seat,
    Tier,
)
from signaling.codes import LOCATOR_BITS, locator_from
from signaling.io.schema import APPOINTMENTS, SEATS, UnknownSchema, is_current, migrate

MIN_KEY_BYTES = 32
MAX_DRAWS = 8  # a billion locators: even eight collisions in a row mean a broken source of entropy
MAX_LISTED = 1000  # appointments in one answer
MAX_CONNECTIONS = 8  # to the database; whoever finds all of them in use waits for one

# Put together once: that costs as much as sending it, and every join asks.
_FIND = (
    select(
        APPOINTMENTS.c.room_id,
        APPOINTMENTS.c.tier,
        APPOINTMENTS.c.start_unix,
        APPOINTMENTS.c.participants,
        SEATS.c.role,
        SEATS.c.number,
    )
    .select_from(SEATS.join(APPOINTMENTS))
    .where(SEATS.c.locator_hash == bindparam("hash"))
)

_REASONS = {  # of SQLite, by the beginning of its error's name: what an operator can mend
    "SQLITE_FULL": "the disk is full",
    "SQLITE_BUSY": "another process has locked it",
    "SQLITE_READONLY": "it cannot be written",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_NOTADB": "the file is no database",
}
_MIGRATION_LOCK = 0x7265_6463_6F6E  # "redcon": for PostgreSQL, whose nodes may start at the same moment
_FILE = "file"  # which file a connection has open: its device and inode
_ORGANISATION_PREFIX = b"organisation\0"  # no locator begins like this, so no two hashes mean different things


class StoreError(Exception):
    """The database did not do what it was asked to."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


class UnknownAppointment(Exception):
    """The organisation has no appointment of this id."""


class TooManyAppointments(Exception):
    """The organisation has as many appointments as it may."""


class NewAppointment(NamedTuple):
    """A stored appointment and its locators, which can never be read back.

    Attributes:
        appointment: as it is stored.
        organiser_locator: of the seat 0.
        participant_locators: of the seats 1 and up, in this order.
        id: what the organisation calls it by.
    """

    appointment: Appointment
    organiser_locator: str
    participant_locators: tuple[str, ...]
    id: bytes

    @property
    def participant_locator(self) -> str:
        """The locator of the first participant."""
        return self.participant_locators[0]

    @property
    def planned(self) -> PlannedAppointment:
        """What may be read back of it."""
        appointment = self.appointment
        return PlannedAppointment(self.id, appointment.tier, appointment.start, appointment.participants)


class Position(NamedTuple):
    """Where a list of appointments goes on: behind this one."""

    start: datetime
    id: bytes


def draw_locator() -> str:
    """Draw a locator from the system's entropy."""
    return locator_from(secrets.randbits(LOCATOR_BITS))


class AppointmentStore:
    """Appointments behind SQLAlchemy: SQLite for one machine, any other database for several.

    Who reads the file without the server key learns how many appointments there are, when, and which of them belong
    to the same organisation, but not to which one.
    """

    def __init__(self, url: str, key: bytes, *, draw: Callable[[], str] = draw_locator) -> None:
        """Prepare the store; nothing is opened before `open`.

        Args:
            url: SQLAlchemy URL with an asyncio driver, such as `sqlite+aiosqlite:///var/appointments.db`
                or `postgresql+asyncpg://user@host/name`.
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
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        in_memory = self._is_sqlite and self._url.database in {None, "", ":memory:"}
        # All of them stay open: to open one costs more than a query, and for SQLite each has a thread.
        pool: dict[str, int] = {} if in_memory else {"pool_size": MAX_CONNECTIONS, "max_overflow": 0}
        # Parameters are hashes of locators: no log line or traceback may show them.
        self._engine: AsyncEngine = create_async_engine(self._url, hide_parameters=True, **pool)
        if self._is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)
            if not in_memory:
                _follow_file(self._engine, Path(self._url.database or ""))

    async def open(self) -> None:
        """Create the file (mode 0600) where it is absent, and bring its tables into today's shape.

        Raises:
            StoreError: the database cannot be reached or written, or a newer version has shaped it.
        """
        path = self._url.database
        with _failures_as("the appointment store cannot be opened"):
            if self._is_sqlite and path and path != ":memory:":
                async with _alone_in(Path(path).parent):
                    _make_private(Path(path))
                    await self._bring_up_to_date()
            else:
                await self._bring_up_to_date()

    async def is_current(self) -> bool:
        """Whether the tables have today's shape; changes nothing.

        Raises:
            StoreError: the database cannot be reached.
        """
        with _failures_as("the appointment store cannot be opened"):
            async with self._engine.connect() as connection:
                return await connection.run_sync(is_current)

    async def create(
        self,
        start: datetime,
        tier: Tier = Tier.BASIS,
        *,
        participants: int = 1,
        organisation: str | None = None,
        limit: int | None = None,
    ) -> NewAppointment:
        """Store an appointment with a fresh locator for each seat.

        The secret of its codes is drawn by the caller and never comes near a store.

        Args:
            start: planned start, an aware instant; kept to the second.
            tier: decides the features of the room.
            participants: seats beside the organiser's, 1 to 19.
            organisation: name of the one that makes it; None for the command line on this machine.
            limit: how many appointments of the organisation may exist, this one included. Requests side by side
                may exceed it by as many as they are.

        Raises:
            StoreError: the database failed, or no free locator was found.
            TooManyAppointments: the limit is reached.
            ValueError: no appointment has so many participants.
        """
        appointment = Appointment(secrets.token_bytes(ROOM_ID_BYTES), tier, start.replace(microsecond=0), participants)
        new_id = secrets.token_bytes(APPOINTMENT_ID_BYTES)
        owner = self._owner(organisation)
        values = {
            "id": new_id,
            "room_id": appointment.room_id,
            "organisation_hash": owner,
            "tier": tier.value,
            "start_unix": int(appointment.start.timestamp()),
            "participants": participants,
        }
        for _ in range(MAX_DRAWS):
            locators = tuple(self._draw() for _ in range(participants + 1))
            if len(set(locators)) < len(locators):
                continue
            seats = [
                {
                    "locator_hash": self._hash(locator),
                    "appointment_id": new_id,
                    "role": (Role.PARTICIPANT if index else Role.ORGANISER).value,
                    "number": index,
                }
                for index, locator in enumerate(locators)
            ]
            with _failures_as("the appointment cannot be stored"):
                try:
                    async with self._engine.begin() as connection:
                        if limit is not None:
                            await _check_limit(connection, owner, limit)
                        await connection.execute(insert(APPOINTMENTS), values)
                        await connection.execute(insert(SEATS), seats)
                except IntegrityError:
                    continue  # a locator is taken: draw all anew
            return NewAppointment(appointment, locators[0], locators[1:], new_id)
        raise StoreError(f"no free locator in {MAX_DRAWS} draws")

    async def find(self, locator: str) -> Seat | None:
        """Find the seat that a locator leads to, whatever the time.

        Raises:
            StoreError: the database failed.
        """
        with _failures_as("the appointments cannot be read"):
            async with self._engine.connect() as connection:
                row = (await connection.execute(_FIND, {"hash": self._hash(locator)})).mappings().one_or_none()
        if row is None:
            return None
        start = _instant(row["start_unix"])
        appointment = Appointment(row["room_id"], Tier(row["tier"]), start, row["participants"])
        return Seat(appointment, Role(row["role"]), row["number"])

    async def list_planned(
        self, organisation: str | None, *, since: datetime, count: int = MAX_LISTED, after: Position | None = None
    ) -> list[PlannedAppointment]:
        """List appointments of an organisation by their planned start.

        Args:
            organisation: whose; None for those of the command line on this machine.
            since: earlier ones are left out; an aware instant.
            count: at most so many, and at most 1000.
            after: begin behind this position.

        Raises:
            StoreError: the database failed.
        """
        query: Select[bytes, str, int, int] = (
            select(APPOINTMENTS.c.id, APPOINTMENTS.c.tier, APPOINTMENTS.c.start_unix, APPOINTMENTS.c.participants)
            .where(_belongs_to(self._owner(organisation)), _starts_since(since))
            .order_by(APPOINTMENTS.c.start_unix, APPOINTMENTS.c.id)
            .limit(min(count, MAX_LISTED))
        )
        if after is not None:
            start, last = int(after.start.timestamp()), after.id
            later = APPOINTMENTS.c.start_unix > start
            query = query.where(or_(later, and_(APPOINTMENTS.c.start_unix == start, APPOINTMENTS.c.id > last)))
        with _failures_as("the appointments cannot be read"):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        return [PlannedAppointment(row.id, Tier(row.tier), _instant(row.start_unix), row.participants) for row in rows]

    async def move(
        self, appointment_id: bytes, organisation: str | None, start: datetime, *, since: datetime
    ) -> PlannedAppointment:
        """Give an appointment another planned start; its codes and its room stay.

        Args:
            appointment_id: which.
            organisation: whose it must be; None for the command line on this machine.
            start: an aware instant; kept to the second.
            since: what was planned earlier has ended and cannot be moved: its codes must not come back to life.

        Raises:
            StoreError: the database failed.
            UnknownAppointment: the organisation has none of this id, or it has ended.
        """
        kept = start.astimezone(UTC).replace(microsecond=0)
        statement = (
            update(APPOINTMENTS)
            .where(APPOINTMENTS.c.id == appointment_id, _belongs_to(self._owner(organisation)), _starts_since(since))
            .values(start_unix=int(kept.timestamp()))
            .returning(APPOINTMENTS.c.tier, APPOINTMENTS.c.participants)
        )
        with _failures_as("the appointment cannot be moved"):
            async with self._engine.begin() as connection:
                row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise UnknownAppointment
        return PlannedAppointment(appointment_id, Tier(row.tier), kept, row.participants)

    async def cancel(self, appointment_id: bytes, organisation: str | None) -> None:
        """Delete an appointment; from now on its codes are unknown.

        In an SQLite file, copies of the rows may stay in the write-ahead log until `delete_started_before`.

        Raises:
            StoreError: the database failed.
            UnknownAppointment: the organisation has none of this id.
        """
        statement = delete(APPOINTMENTS).where(
            APPOINTMENTS.c.id == appointment_id, _belongs_to(self._owner(organisation))
        )
        with _failures_as("the appointment cannot be deleted"):
            async with self._engine.begin() as connection:
                deleted = (await connection.execute(statement)).rowcount
        if not deleted:
            raise UnknownAppointment

    async def delete_started_before(self, instant: datetime) -> int:
        """Delete the appointments with an earlier planned start, and their seats. Returns how many there were.

        Raises:
            StoreError: the database failed, or somebody reads it for so long that the deleted rows stay in its log.
        """
        statement = delete(APPOINTMENTS).where(APPOINTMENTS.c.start_unix < int(instant.timestamp()))
        with _failures_as("old appointments cannot be deleted"):
            async with self._engine.begin() as connection:
                deleted = (await connection.execute(statement)).rowcount
            if self._is_sqlite:
                await self._empty_log()
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

    async def _bring_up_to_date(self) -> None:
        async with self._engine.connect() as connection:
            if await connection.run_sync(is_current):
                return
        await self._migrate()

    async def _migrate(self) -> None:
        """Take the missing steps, all or none. Whoever else does so at the same moment waits."""
        async with self._engine.connect() as connection:
            if self._is_sqlite:
                # Python's driver begins no transaction for a change of tables: we begin it, and at once for writing.
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                await connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            try:
                await connection.run_sync(migrate)
            except UnknownSchema as error:
                raise StoreError("a newer version of redconnect has changed the database") from error
            await connection.commit()

    def _owner(self, organisation: str | None) -> bytes | None:
        if organisation is None:
            return None
        return hmac.digest(self._key, _ORGANISATION_PREFIX + organisation.encode(), hashlib.sha256)

    def _hash(self, locator: str) -> bytes:
        return hmac.digest(self._key, locator.encode(), hashlib.sha256)


@contextlib.contextmanager
def _failures_as(message: str) -> Iterator[None]:
    """Tell every failure of the database as a StoreError; where nobody listens, the driver raises an OSError."""
    try:
        yield
    except (OSError, SQLAlchemyError) as error:
        raise StoreError(message + _reason_of(error)) from error


def _reason_of(error: Exception) -> str:
    """What the operator can mend, in our words: the driver's may hold parameters."""
    if isinstance(error, FileNotFoundError):
        return ": there is no such file"
    name = getattr(error.orig, "sqlite_errorname", "") if isinstance(error, DBAPIError) else ""
    return next((f": {reason}" for begin, reason in _REASONS.items() if name.startswith(begin)), "")


async def _check_limit(connection: AsyncConnection, owner: bytes | None, limit: int) -> None:
    query = select(func.count()).select_from(APPOINTMENTS).where(_belongs_to(owner))
    if (await connection.execute(query)).scalar_one() >= limit:
        raise TooManyAppointments


def _belongs_to(owner: bytes | None) -> ColumnElement[bool]:
    return APPOINTMENTS.c.organisation_hash == owner  # None becomes IS NULL


def _starts_since(instant: datetime) -> ColumnElement[bool]:
    return APPOINTMENTS.c.start_unix >= int(instant.timestamp())


def _instant(unix: int) -> datetime:
    return datetime.fromtimestamp(unix, UTC)


@contextlib.asynccontextmanager
async def _alone_in(directory: Path) -> AsyncIterator[None]:
    """Let one process at a time open a database in the directory.

    SQLite waits for whoever writes, but not for whoever turns the same fresh file to WAL: that one is told "database
    is locked" at once.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_private(path: Path) -> None:
    """Give the file to its owner alone, before SQLite makes it (and its WAL, which inherits the mode)."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


def _follow_file(engine: AsyncEngine, path: Path) -> None:
    """Let connections end with the file that they have open, if another one or none is in its place now.

    They would go on in a file without a name: nobody else would see what they write, and they would not see what is
    written into a backup that was put back. Where there is no file they fail, and do not make an empty one.
    """

    def on_connect_wanted(*_unused: Any) -> None:  # noqa: ANN401 - SQLAlchemy passes four things
        path.stat()

    def on_connected(_connection: SqliteConnection, entry: ConnectionPoolEntry) -> None:
        entry.info[_FILE] = _identity(path)

    def on_checkout(_connection: SqliteConnection, entry: ConnectionPoolEntry, _proxy: object) -> None:
        try:
            is_same = entry.info[_FILE] == _identity(path)
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise DisconnectionError("the file is not there, or another one")

    event.listen(engine.sync_engine, "do_connect", on_connect_wanted)
    event.listen(engine.sync_engine, "connect", on_connected)
    event.listen(engine.sync_engine, "checkout", on_checkout)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _configure_sqlite(connection: SqliteConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=WAL")  # the command line writes while the service reads
        cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
        cursor.execute("PRAGMA foreign_keys=ON")  # seats go with their appointment
    finally:
        cursor.close()
