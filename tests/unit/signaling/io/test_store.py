import asyncio
import contextlib
import itertools
import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from signaling.appointments import MAX_PEOPLE, PlannedAppointment, Role, Seat, Tier
from signaling.codes import AccessCode, InvalidCode, secret_from
from signaling.io.store import (
    MAX_CONNECTIONS,
    MAX_DRAWS,
    AppointmentStore,
    Position,
    StoreError,
    TooManyAppointments,
    UnknownAppointment,
)
from tests.unit.signaling.io.bench import KEY, START


def modes_of_files(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def bytes_of_files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def unix_bytes(instant: datetime) -> bytes:
    """As SQLite writes the number."""
    return int(instant.timestamp()).to_bytes(4)


async def test_both_seats_of_an_appointment_are_found(any_store: AppointmentStore) -> None:
    new = await any_store.create(START, Tier.PLUS)
    organiser = await any_store.find(new.organiser_locator)
    participant = await any_store.find(new.participant_locator)
    assert organiser == Seat(new.appointment, Role.ORGANISER, 0)
    assert participant == Seat(new.appointment, Role.PARTICIPANT, 1)
    assert new.appointment.start == START
    assert new.appointment.tier is Tier.PLUS


async def test_each_seat_of_a_conference_has_a_number_and_a_locator_of_its_own(any_store: AppointmentStore) -> None:
    new = await any_store.create(START, Tier.PLUS, participants=MAX_PEOPLE - 1)
    assert len({new.organiser_locator, *new.participant_locators}) == MAX_PEOPLE
    assert new.appointment.is_conference
    assert await any_store.find(new.organiser_locator) == Seat(new.appointment, Role.ORGANISER, 0)
    for number, locator in enumerate(new.participant_locators, start=1):
        assert await any_store.find(locator) == Seat(new.appointment, Role.PARTICIPANT, number)
    assert await any_store.list_planned(None, since=START) == [new.planned]
    moved = await any_store.move(new.id, None, START + timedelta(hours=1), since=START)
    assert moved.participants == MAX_PEOPLE - 1


@pytest.mark.parametrize("participants", [0, MAX_PEOPLE])
async def test_a_conference_is_not_smaller_or_larger_than_may_be(store: AppointmentStore, participants: int) -> None:
    with pytest.raises(ValueError, match="1 to 19 participants"):
        await store.create(START, Tier.PLUS, participants=participants)
    assert await store.list_planned(None, since=START) == []


async def test_of_a_deleted_conference_nothing_is_left_in_the_file(store: AppointmentStore, tmp_path: Path) -> None:
    new = await store.create(START, Tier.PLUS, participants=5)
    hashes = [store._hash(locator) for locator in (new.organiser_locator, *new.participant_locators)]
    assert all(digest in bytes_of_files(tmp_path) for digest in hashes)
    assert await store.delete_started_before(START + timedelta(seconds=1)) == 1
    for locator in (new.organiser_locator, *new.participant_locators):
        assert await store.find(locator) is None
    await store.close()
    left = bytes_of_files(tmp_path)
    assert not any(digest in left for digest in hashes)


async def test_an_unknown_locator_leads_nowhere(any_store: AppointmentStore) -> None:
    assert await any_store.find("000000") is None


async def test_many_lookups_at_once_wait_for_few_connections_that_stay_open(any_store: AppointmentStore) -> None:
    new = await any_store.create(START)
    opened: list[object] = []
    event.listen(any_store._engine.sync_engine, "connect", lambda connection, _: opened.append(connection))
    for _ in range(3):
        found = await asyncio.gather(
            *(any_store.find(new.organiser_locator) for _ in range(4 * MAX_CONNECTIONS)),
        )
        assert set(found) == {Seat(new.appointment, Role.ORGANISER, 0)}
    assert len(opened) < MAX_CONNECTIONS, "one was there before"


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


async def test_the_tables_have_only_the_columns_that_were_promised(store: AppointmentStore, tmp_path: Path) -> None:
    await store.close()
    connection = sqlite3.connect(tmp_path / "appointments.db")
    try:
        columns = {
            table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        }
        journal = connection.execute("PRAGMA journal_mode").fetchone()
    finally:
        connection.close()
    assert columns == {
        "appointment": {"id", "room_id", "organisation_hash", "tier", "start_unix", "participants"},
        "seat": {"locator_hash", "appointment_id", "role", "number"},
        "alembic_version": {"version_num"},
    }
    assert journal == ("wal",)


async def test_a_taken_locator_is_drawn_again(database_url: str) -> None:
    draws = iter(["000000", "000001", "000000", "000002", "000003", "000003", "000004", "000005"])
    store = AppointmentStore(database_url, KEY, draw=lambda: next(draws))
    await store.open()
    await store.create(START)
    second = await store.create(START)
    assert (second.organiser_locator, second.participant_locator) == ("000004", "000005")
    assert await store.find("000002") is None, "the half of a failed draw was not kept"
    await store.close()


async def test_a_broken_source_of_entropy_ends_in_an_error(database_url: str) -> None:
    calls = itertools.count()
    store = AppointmentStore(database_url, KEY, draw=lambda: "000000" if next(calls) >= 0 else "")
    await store.open()
    with pytest.raises(StoreError, match="no free locator"):
        await store.create(START)
    assert next(calls) == 2 * MAX_DRAWS
    await store.close()


async def test_old_appointments_are_deleted_and_new_ones_kept(any_store: AppointmentStore) -> None:
    old = await any_store.create(START - timedelta(seconds=1))
    new = await any_store.create(START)
    assert await any_store.delete_started_before(START) == 1
    assert await any_store.find(old.organiser_locator) is None
    assert await any_store.find(new.organiser_locator) is not None


async def test_nothing_of_a_deleted_appointment_is_left_in_any_file(store: AppointmentStore, tmp_path: Path) -> None:
    old = await store.create(START - timedelta(days=2), Tier.PLUS, organisation="practice")
    new = await store.create(START, organisation="other")
    # The moved start is what no other row has: its bytes, too, must be gone.
    moved = START - timedelta(days=3, seconds=12345)
    await store.move(old.id, "practice", moved, since=START - timedelta(days=9))
    stored = bytes_of_files(tmp_path)
    for part in (old.appointment.room_id, old.id, store._owner("practice"), unix_bytes(moved)):
        assert part is not None and part in stored, "this test reads the right files"
    assert await store.find(old.organiser_locator) is not None
    await store.delete_started_before(START)
    assert set(modes_of_files(tmp_path)) == {"appointments.db", "appointments.db-wal", "appointments.db-shm"}, (
        "the store is open"
    )
    left = bytes_of_files(tmp_path)
    assert new.appointment.room_id in left
    assert old.appointment.room_id not in left
    for part in (old.id, store._owner("practice"), unix_bytes(moved), unix_bytes(old.appointment.start)):
        assert part is not None and part not in left
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


async def test_opening_twice_keeps_what_is_there(any_store: AppointmentStore) -> None:
    new = await any_store.create(START)
    await any_store.open()
    assert await any_store.find(new.participant_locator) is not None


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


async def test_a_start_is_kept_to_the_second(any_store: AppointmentStore) -> None:
    new = await any_store.create(datetime(2026, 11, 22, 9, 0, 0, 999_999, tzinfo=UTC))
    assert new.appointment.start == START


async def test_drawn_locators_can_be_typed(store: AppointmentStore) -> None:
    new = await store.create(START)
    try:
        AccessCode.compose(new.organiser_locator, "00000")
    except InvalidCode:
        pytest.fail("a drawn locator is no locator")


async def test_an_organisation_sees_its_own_appointments_by_their_start(any_store: AppointmentStore) -> None:
    late = await any_store.create(START + timedelta(hours=2), Tier.PLUS, organisation="practice")
    early = await any_store.create(START, organisation="practice")
    await any_store.create(START, organisation="other")
    await any_store.create(START)
    assert await any_store.list_planned("practice", since=START) == [
        PlannedAppointment(early.id, Tier.BASIS, START),
        PlannedAppointment(late.id, Tier.PLUS, START + timedelta(hours=2)),
    ]
    assert await any_store.list_planned("practice", since=START + timedelta(seconds=1)) == [
        PlannedAppointment(late.id, Tier.PLUS, START + timedelta(hours=2))
    ]
    assert len(await any_store.list_planned(None, since=START)) == 1
    assert await any_store.list_planned("nobody", since=START) == []


async def test_pages_of_the_list_neither_repeat_nor_lose_an_appointment(any_store: AppointmentStore) -> None:
    made = {(await any_store.create(START, organisation="practice")).id for _ in range(5)}
    made.add((await any_store.create(START + timedelta(days=1), organisation="practice")).id)
    seen: list[bytes] = []
    after = None
    while page := await any_store.list_planned("practice", since=START, count=2, after=after):
        assert len(page) == 2
        seen += [planned.id for planned in page]
        after = Position(page[-1].start, page[-1].id)
    assert len(seen) == 6
    assert set(seen) == made


async def test_a_moved_appointment_keeps_codes_and_room(any_store: AppointmentStore) -> None:
    new = await any_store.create(START, Tier.PLUS, organisation="practice")
    later = START + timedelta(days=7)
    moved = await any_store.move(new.id, "practice", later, since=START)
    assert moved == PlannedAppointment(new.id, Tier.PLUS, later)
    seat = await any_store.find(new.participant_locator)
    assert seat is not None
    assert (seat.appointment.room_id, seat.appointment.start) == (new.appointment.room_id, later)


async def test_an_ended_appointment_cannot_be_moved_back_to_life(any_store: AppointmentStore) -> None:
    new = await any_store.create(START, organisation="practice")
    with pytest.raises(UnknownAppointment):
        await any_store.move(new.id, "practice", START + timedelta(days=9), since=START + timedelta(seconds=1))
    seat = await any_store.find(new.organiser_locator)
    assert seat is not None
    assert seat.appointment.start == START


async def test_a_cancelled_appointment_takes_its_codes_along(any_store: AppointmentStore) -> None:
    new, kept = [await any_store.create(START, organisation="practice") for _ in range(2)]
    await any_store.cancel(new.id, "practice")
    assert await any_store.find(new.organiser_locator) is None
    assert await any_store.find(new.participant_locator) is None
    assert await any_store.find(kept.participant_locator) is not None
    with pytest.raises(UnknownAppointment):
        await any_store.cancel(new.id, "practice")


@pytest.mark.parametrize("stranger", ["other", None])
async def test_nobody_moves_or_cancels_what_another_made(any_store: AppointmentStore, stranger: str | None) -> None:
    new = await any_store.create(START, organisation="practice")
    with pytest.raises(UnknownAppointment):
        await any_store.cancel(new.id, stranger)
    with pytest.raises(UnknownAppointment):
        await any_store.move(new.id, stranger, START + timedelta(days=1), since=START)
    assert await any_store.list_planned("practice", since=START) == [PlannedAppointment(new.id, Tier.BASIS, START)]


async def test_an_organisation_has_a_limit_of_its_own(any_store: AppointmentStore) -> None:
    for _ in range(2):
        await any_store.create(START, organisation="practice", limit=2)
    with pytest.raises(TooManyAppointments):
        await any_store.create(START, organisation="practice", limit=2)
    await any_store.create(START, organisation="other", limit=2)
    assert len(await any_store.list_planned("practice", since=START)) == 2


async def test_the_name_of_an_organisation_is_not_stored(store: AppointmentStore, tmp_path: Path) -> None:
    await store.create(START, organisation="practice-of-somebody")
    await store.close()
    stored = bytes_of_files(tmp_path)
    owner = store._owner("practice-of-somebody")
    assert owner is not None and owner in stored
    assert b"practice-of-somebody" not in stored


async def test_nothing_of_a_cancelled_appointment_is_left_after_the_next_deletion(
    store: AppointmentStore, tmp_path: Path
) -> None:
    new = await store.create(START, organisation="practice")
    await store.cancel(new.id, "practice")
    await store.delete_started_before(START - timedelta(days=9))
    left = bytes_of_files(tmp_path)
    for part in (new.id, new.appointment.room_id, store._hash(new.organiser_locator)):
        assert part not in left


async def test_a_database_that_does_not_answer_is_a_store_error(unused_tcp_port: int) -> None:
    store = AppointmentStore(f"postgresql+asyncpg://nobody@127.0.0.1:{unused_tcp_port}/none", KEY)
    with pytest.raises(StoreError):
        await store.open()
    with pytest.raises(StoreError):
        await store.find("ABCDEF")
    with pytest.raises(StoreError):
        await store.create(START)
    with pytest.raises(StoreError):
        await store.list_planned(None, since=START)
    with pytest.raises(StoreError):
        await store.delete_started_before(START)
    await store.close()


async def test_a_wrong_password_is_a_store_error(postgres: str) -> None:
    store = AppointmentStore(f"{postgres}postgres".replace(":only-", ":not-"), KEY)
    with pytest.raises(StoreError):
        await store.open()
    await store.close()


async def test_many_who_make_appointments_at_once_do_not_hinder_each_other(any_store: AppointmentStore) -> None:
    made = await asyncio.gather(*(any_store.create(START, organisation="practice", limit=1000) for _ in range(40)))
    assert len({new.id for new in made}) == 40
    assert len(await any_store.list_planned("practice", since=START)) == 40


def put_in_place(database: Path, old: Path) -> None:
    """Replace a database, and what belongs to it, by one that is closed."""
    for each in old.parent.glob(f"{old.name}-*"):
        each.unlink()
    database.replace(old)


async def test_a_database_that_was_put_in_the_place_of_another_is_used_at_once(tmp_path: Path) -> None:
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    store, backup = (AppointmentStore(f"sqlite+aiosqlite:///{each}", KEY) for each in (path, other))
    await store.open()
    await backup.open()
    old, new = await store.create(START), await backup.create(START)
    await backup.close()
    put_in_place(other, path)
    assert await store.find(new.organiser_locator) is not None
    assert await store.find(old.organiser_locator) is None
    await store.close()


async def test_a_database_that_is_gone_is_a_store_error_and_no_empty_one_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = AppointmentStore(f"sqlite+aiosqlite:///{path}", KEY)
    await store.open()
    locator = (await store.create(START)).organiser_locator
    path.rename(tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be read: there is no such file"):
            await store.find(locator)
    assert not path.exists()
    (tmp_path / "gone").rename(path)
    assert await store.find(locator) is not None
    await store.close()


async def test_a_lock_is_named_as_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = AppointmentStore(f"sqlite+aiosqlite:///{path}?timeout=0", KEY)
    await store.open()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="cannot be stored: another process has locked it"):
            await store.create(START)
    await store.create(START)
    await store.close()
