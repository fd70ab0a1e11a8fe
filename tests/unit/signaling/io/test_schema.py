import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert
from sqlalchemy.ext.asyncio import create_async_engine

from signaling.appointments import Role, Tier
from signaling.io.schema import APPOINTMENTS, HEAD, METADATA, MIGRATIONS, SEATS, is_current
from signaling.io.store import AppointmentStore, StoreError
from tests.unit.signaling.io.bench import KEY, START


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, METADATA))


def test_the_newest_step_is_the_one_that_the_store_wants() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_the_steps_lead_to_the_tables_that_queries_use(any_store: AppointmentStore) -> None:
    async with any_store._engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(is_current)


async def test_a_database_from_before_the_migrations_keeps_its_codes(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    store = AppointmentStore(f"sqlite+aiosqlite:///{path}", KEY)
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE seat (locator_hash BLOB NOT NULL PRIMARY KEY, room_id BLOB NOT NULL, role VARCHAR(16) NOT NULL,"
        " tier VARCHAR(16) NOT NULL, start_unix BIGINT NOT NULL)"
    )
    old.execute("CREATE INDEX seat_start_unix ON seat (start_unix)")
    starts = {b"a" * 16: START, b"b" * 16: START + timedelta(days=1)}
    for room, start in starts.items():
        for role in Role:
            row = (store._hash(f"{room[:1].decode()}{role}"), room, role.value, "plus", int(start.timestamp()))
            old.execute("INSERT INTO seat VALUES (?, ?, ?, ?, ?)", row)
    old.commit()
    old.close()
    await store.open()
    for room, start in starts.items():
        for role in Role:
            seat = await store.find(f"{room[:1].decode()}{role}")
            assert seat is not None
            assert (seat.role, seat.appointment.room_id, seat.appointment.start) == (role, room, start)
            assert seat.appointment.tier is Tier.PLUS
    first, second = await store.list_planned(None, since=START)
    assert first.id != second.id
    assert not {first.id, second.id} & set(starts)
    await store.close()


async def test_appointments_of_the_second_step_are_for_two_and_their_seats_are_numbered(database_url: str) -> None:
    store = AppointmentStore(database_url, KEY)
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(_migrate_to, "0002")
        room, start = b"a" * 16, int(START.timestamp())
        # Columns of later steps have a default of the server, and are not named here.
        await connection.execute(insert(APPOINTMENTS).values(id=room, room_id=room, tier="plus", start_unix=start))
        for role in Role:
            values = {"locator_hash": store._hash(f"{role}"), "appointment_id": room, "role": role.value}
            await connection.execute(insert(SEATS).values(values))
    await engine.dispose()
    await store.open()
    for number, role in enumerate((Role.ORGANISER, Role.PARTICIPANT)):
        seat = await store.find(f"{role}")
        assert seat is not None
        assert (seat.role, seat.number, seat.appointment.participants) == (role, number, 1)
    conference = await store.create(START, Tier.PLUS, participants=3)
    assert len(conference.participant_locators) == 3
    await store.close()


def _migrate_to(connection: Connection, step: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, step)


async def test_processes_that_start_together_shape_the_database_once(database_url: str) -> None:
    stores = [AppointmentStore(database_url, KEY) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    new = await stores[0].create(START)
    assert await stores[3].find(new.organiser_locator) is not None
    for store in stores:
        await store.close()


async def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    store = AppointmentStore(database_url, KEY)
    await store.open()
    new = await store.create(START)
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    await engine.dispose()
    other = AppointmentStore(database_url, KEY)
    with pytest.raises(StoreError, match="newer version"):
        await other.open()
    assert await store.find(new.organiser_locator) is not None
    await other.close()
    await store.close()


async def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    blocked = sqlite3.connect(path)
    blocked.execute("CREATE TABLE appointment (id INTEGER)")  # in the way of the second step
    blocked.commit()
    store = AppointmentStore(f"sqlite+aiosqlite:///{path}", KEY)
    with pytest.raises(StoreError):
        await store.open()
    await store.close()
    tables = {name for (name,) in blocked.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    blocked.close()
    assert tables == {"appointment"}
