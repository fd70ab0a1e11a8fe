import itertools
import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from signaling.appointments import Role, Tier
from signaling.codes import AccessCode, InvalidCode, secret_from
from signaling.io.store import MAX_DRAWS, AppointmentStore, StoreError
from tests.unit.signaling.io.bench import KEY, START


def modes_of_files(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def bytes_of_files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_both_seats_of_an_appointment_are_found(store: AppointmentStore) -> None:
    new = await store.create(START, Tier.PLUS)
    organiser = await store.find(new.organiser_locator)
    participant = await store.find(new.participant_locator)
    assert organiser == (new.appointment, Role.ORGANISER)
    assert participant == (new.appointment, Role.PARTICIPANT)
    assert new.appointment.start == START
    assert new.appointment.tier is Tier.PLUS


async def test_an_unknown_locator_leads_nowhere(store: AppointmentStore) -> None:
    assert await store.find("000000") is None


async def test_another_key_knows_no_code(store: AppointmentStore, tmp_path: Path) -> None:
    new = await store.create(START)
    other = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'appointments.db'}", bytes(32))
    await other.open()
    assert await other.find(new.organiser_locator) is None
    await other.close()


async def test_the_files_belong_to_their_owner_alone(store: AppointmentStore, tmp_path: Path) -> None:
    await store.create(START)
    modes = modes_of_files(tmp_path)
    assert set(modes) >= {"appointments.db", "appointments.db-wal"}
    assert set(modes.values()) == {0o600}


async def test_a_file_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.touch(mode=0o644)
    store = AppointmentStore(f"sqlite+aiosqlite:///{path}", KEY)
    await store.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()


async def test_no_file_contains_a_locator_or_a_secret(store: AppointmentStore, tmp_path: Path) -> None:
    new = await store.create(START)
    codes = [
        AccessCode.compose(locator, secret_from(0x1234567))
        for locator in (new.organiser_locator, new.participant_locator)
    ]
    for code in codes:
        assert await store.find(code.locator) is not None
    await store.close()
    stored = bytes_of_files(tmp_path)
    assert new.appointment.room_id in stored, "this test reads the right files"
    for code in codes:
        for private in (code.locator, code.secret, code.compact, code.display):
            assert private.encode() not in stored


async def test_the_table_has_only_the_columns_that_were_promised(store: AppointmentStore, tmp_path: Path) -> None:
    await store.close()
    connection = sqlite3.connect(tmp_path / "appointments.db")
    try:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(seat)")}
        journal = connection.execute("PRAGMA journal_mode").fetchone()
    finally:
        connection.close()
    assert columns == {"locator_hash", "room_id", "role", "tier", "start_unix"}
    assert journal == ("wal",)


async def test_a_taken_locator_is_drawn_again(tmp_path: Path) -> None:
    draws = iter(["000000", "000001", "000000", "000002", "000003", "000003", "000004", "000005"])
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", KEY, draw=lambda: next(draws))
    await store.open()
    await store.create(START)
    second = await store.create(START)
    assert (second.organiser_locator, second.participant_locator) == ("000004", "000005")
    assert await store.find("000002") is None, "the half of a failed draw was not kept"
    await store.close()


async def test_a_broken_source_of_entropy_ends_in_an_error(tmp_path: Path) -> None:
    calls = itertools.count()
    store = AppointmentStore(
        f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", KEY, draw=lambda: "000000" if next(calls) >= 0 else ""
    )
    await store.open()
    with pytest.raises(StoreError, match="no free locator"):
        await store.create(START)
    assert next(calls) == 2 * MAX_DRAWS
    await store.close()


async def test_old_appointments_are_deleted_and_new_ones_kept(store: AppointmentStore) -> None:
    old = await store.create(START - timedelta(seconds=1))
    new = await store.create(START)
    assert await store.delete_started_before(START) == 2
    assert await store.find(old.organiser_locator) is None
    assert await store.find(new.organiser_locator) is not None


async def test_nothing_of_a_deleted_appointment_is_left_in_any_file(store: AppointmentStore, tmp_path: Path) -> None:
    old = await store.create(START - timedelta(days=2))
    new = await store.create(START)
    assert old.appointment.room_id in bytes_of_files(tmp_path), "this test reads the right files"
    assert await store.find(old.organiser_locator) is not None
    await store.delete_started_before(START)
    assert set(modes_of_files(tmp_path)) == {"appointments.db", "appointments.db-wal", "appointments.db-shm"}, (
        "the store is open"
    )
    left = bytes_of_files(tmp_path)
    assert new.appointment.room_id in left
    assert old.appointment.room_id not in left
    for locator in (old.organiser_locator, old.participant_locator):
        assert store._hash(locator) not in left


async def test_a_reader_that_keeps_deleted_rows_in_the_log_is_an_error_until_it_ends(tmp_path: Path) -> None:
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}?timeout=0", KEY)
    await store.open()
    old = await store.create(START - timedelta(days=2))
    reader = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM seat").fetchall()
        with pytest.raises(StoreError, match="write-ahead log"):
            await store.delete_started_before(START)
    finally:
        reader.close()
    assert await store.delete_started_before(START) == 0
    assert old.appointment.room_id not in bytes_of_files(tmp_path)
    await store.close()


async def test_opening_twice_keeps_what_is_there(store: AppointmentStore) -> None:
    new = await store.create(START)
    await store.open()
    assert await store.find(new.participant_locator) is not None


async def test_a_file_that_is_no_database_is_a_store_error_without_parameters(tmp_path: Path) -> None:
    path = tmp_path / "no.db"
    path.write_bytes(b"not a database" * 100)
    store = AppointmentStore(f"sqlite+aiosqlite:///{path}", KEY)
    with pytest.raises(StoreError):
        await store.open()
    with pytest.raises(StoreError) as caught:
        await store.find("ABCDEF")
    assert "ABCDEF" not in repr(caught.value.__cause__)
    with pytest.raises(StoreError):
        await store.create(START)
    with pytest.raises(StoreError):
        await store.delete_started_before(START)
    await store.close()


async def test_a_missing_folder_is_a_store_error(tmp_path: Path) -> None:
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'none' / 'a.db'}", KEY)
    with pytest.raises(StoreError):
        await store.open()
    await store.close()


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        AppointmentStore("sqlite+aiosqlite:///:memory:", bytes(31))


async def test_a_start_is_kept_to_the_second(store: AppointmentStore) -> None:
    new = await store.create(datetime(2026, 11, 22, 9, 0, 0, 999_999, tzinfo=UTC))
    assert new.appointment.start == START


async def test_drawn_locators_can_be_typed(store: AppointmentStore) -> None:
    new = await store.create(START)
    try:
        AccessCode.compose(new.organiser_locator, "00000")
    except InvalidCode:
        pytest.fail("a drawn locator is no locator")
