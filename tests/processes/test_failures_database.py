"""A database that is locked, gone, stopped or full: calls go on, and who comes is told the truth."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from signaling.io.schema import APPOINTMENTS
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, run_postgres_server
from tests.support.running_calls import running_calls
from tests.support.service import Service, run_service
from tests.support.small_disk import SmallDisk
from tests.support.visitor import join
from tests.support.wire_client import Server, run_relay

pytestmark = pytest.mark.long

FAILURES = "redconnect_signaling_store_failures_total"
RETRY_SECONDS = 5
ON_A_SMALL_DISK = ("tests.support.small_disk", "config")


class Practice:
    """A relay with pages, and one appointment."""

    def __init__(self, relay: Server) -> None:
        self.relay = relay
        self.service = relay.service
        self.code = self.service.create_appointment().organiser

    def join(self, code: str = "") -> dict[str, Any]:
        return join(self.service.settings["signaling"]["port"], code or self.code)

    def is_known(self) -> bool:
        return bool(self.join()["type"] == "joined")

    def assert_refused_for_now(self) -> None:
        """A join is answered by a refusal that says when the page tries again; and it is counted."""
        before = self.service.metrics()[FAILURES]
        assert self.join() == {"type": "error", "code": "overload", "retry_after": RETRY_SECONDS}
        assert self.service.metrics()[FAILURES] == before + 1


@pytest.fixture
def practice(tmp_path: Path) -> Iterator[Practice]:
    with run_relay(tmp_path, services=["relay", "signaling"], signaling={"port": free_port()}) as relay:
        yield Practice(relay)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with run_postgres_server() as server:
        yield server


@pytest.fixture
def at_postgres(tmp_path: Path, postgres: PostgresServer) -> Iterator[Practice]:
    signaling = {"port": free_port()}
    with run_relay(
        tmp_path, services=["relay", "signaling"], signaling=signaling, database_url=f"{postgres.url}postgres"
    ) as relay:
        yield Practice(relay)


def database_of(service: Service) -> Path:
    return Path(service.settings["state_dir"]) / "redconnect.sqlite3"


def create(service: Service) -> tuple[int, str]:
    """Exit status and error of the command that creates an appointment."""
    done = service.command("appointment", "create", "--start", "now")
    return done.returncode, done.stderr


def move(source: Path, target: Path) -> None:
    """Move an SQLite database with all that belongs to it."""
    target.mkdir()
    for path in source.parent.glob(f"{source.name}*"):
        path.rename(target / path.name)


def test_while_sqlite_is_locked_calls_go_on_people_come_and_a_new_appointment_is_refused_with_the_reason(
    practice: Practice,
) -> None:
    with running_calls(practice.relay) as calls, closing(sqlite3.connect(database_of(practice.service))) as other:
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        calls.go_on()
        assert practice.is_known()
        status, error = create(practice.service)
        assert (status, "another process has locked it" in error) == (1, True)
        other.execute("ROLLBACK")
        assert create(practice.service) == (0, "")
        assert practice.is_known()


def test_when_the_file_of_sqlite_is_gone_who_comes_may_come_back_and_a_backup_is_used_without_a_restart(
    practice: Practice, tmp_path: Path
) -> None:
    database = database_of(practice.service)
    with running_calls(practice.relay) as calls:
        assert practice.is_known()
        move(database, tmp_path / "backup")
        practice.assert_refused_for_now()
        practice.assert_refused_for_now()
        assert not database.exists(), "an empty database would know nobody"
        calls.go_on()
        practice.service.reload()
        for path in (tmp_path / "backup").iterdir():
            (database.parent / path.name).write_bytes(path.read_bytes())  # another inode, as of a real backup
        assert practice.is_known()
        later = practice.service.create_appointment()
        assert practice.join(later.participant)["type"] == "joined"
        calls.go_on()
    assert practice.service.log.read_text().count("a join failed on the store") == 1


def test_a_locked_postgresql_refuses_who_comes_in_bounded_time_and_harms_no_call(
    at_postgres: Practice, postgres: PostgresServer
) -> None:
    async def try_while_it_is_locked() -> None:
        engine = create_async_engine(f"{postgres.url}postgres")
        try:
            async with engine.begin() as connection:
                await connection.execute(text(f"LOCK TABLE {APPOINTMENTS.name} IN ACCESS EXCLUSIVE MODE"))
                await asyncio.to_thread(at_postgres.assert_refused_for_now)
        finally:
            await engine.dispose()

    with running_calls(at_postgres.relay) as calls:
        assert at_postgres.is_known()
        asyncio.run(try_while_it_is_locked())
        assert at_postgres.is_known()
        calls.go_on()


def test_a_stopped_postgresql_refuses_who_comes_and_is_used_again_as_soon_as_it_is_there(
    at_postgres: Practice, postgres: PostgresServer
) -> None:
    with running_calls(at_postgres.relay) as calls:
        assert at_postgres.is_known()
        postgres.stop()
        try:
            at_postgres.assert_refused_for_now()
            assert create(at_postgres.service)[0] == 1
            calls.go_on()
            at_postgres.service.reload()
            assert at_postgres.service.admin_status("/healthz") == 200
        finally:
            postgres.start()
        at_postgres.service.await_that(at_postgres.is_known)
        assert create(at_postgres.service) == (0, "")
        calls.go_on()


def test_without_its_database_a_service_does_not_start_and_says_why(tmp_path: Path) -> None:
    missing = f"postgresql+asyncpg://test@127.0.0.1:{free_port()}/none"
    settings = {"services": ["signaling"], "signaling": {"port": free_port()}, "database_url": missing}
    with (
        pytest.raises(RuntimeError, match="cannot start: the appointment store cannot be opened"),
        run_service(tmp_path, settings),
    ):
        pass


def test_on_a_full_disk_calls_go_on_people_come_and_a_new_appointment_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (
        run_relay(
            tmp_path, services=["relay", "signaling"], signaling={"port": port}, program=ON_A_SMALL_DISK
        ) as relay,
        running_calls(relay) as calls,
    ):
        disk = SmallDisk(relay.service)
        made = disk.command("appointment", "create", "--start", "now", "--json")
        code = json.loads(made.stdout)["organiser"]["code"]
        assert join(port, code)["type"] == "joined"
        disk.fill()
        logged = disk.log
        calls.go_on()
        assert join(port, code)["type"] == "joined"
        refused = disk.command("appointment", "create", "--start", "now")
        assert (refused.returncode, "the disk is full" in refused.stderr) == (1, True)
        relay.service.hang_up()
        relay.service.await_that(lambda: relay.service.metrics()['redconnect_reloads_total{result="success"}'] == 1)
        with closing(relay.client("tls")) as late:
            assert late.allocate().code == 0
        calls.go_on()
        assert relay.service.is_ready()
        assert disk.log == logged, "what cannot be logged is lost, and nothing else is"
        disk.make_room()
        again = disk.command("appointment", "create", "--start", "now", "--json")
        assert join(port, json.loads(again.stdout)["organiser"]["code"])["type"] == "joined"
        assert join(port, code)["type"] == "joined"
        calls.go_on()
        assert disk.log != logged


def test_a_service_that_is_killed_starts_on_a_full_disk_and_knows_every_appointment(tmp_path: Path) -> None:
    port = free_port()
    settings = {"services": ["signaling"], "signaling": {"port": port}}
    with run_service(tmp_path, settings, program=ON_A_SMALL_DISK) as service:
        disk = SmallDisk(service)
        made = disk.command("appointment", "create", "--start", "now", "--json")
        code = json.loads(made.stdout)["organiser"]["code"]
        with disk.outliving() as program:
            disk.fill()
            service.process.kill()
            service.process.wait()
            with run_service(tmp_path, settings, program=program) as again:
                assert join(port, code)["type"] == "joined"
                assert again.is_ready()
