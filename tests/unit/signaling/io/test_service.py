import asyncio
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from signaling.io import service
from signaling.io.store import AppointmentStore, StoreError
from tests.unit.signaling.io.bench import KEY, START, Bench


async def test_stopping_sends_everybody_away(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        seated, unseated = await bench.browser(), await bench.browser()
        await seated.join((await bench.plan())[0])
        assert (bench.service.ready, len(bench.service.addresses)) == (True, 1)
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(bench.service.stop())
            for browser in (seated, unseated):
                assert await browser.receive() == {"type": "drain"}
                assert await browser.closed() == 1001
        assert stopping.done()
        assert (bench.service.ready, bench.service.addresses) == (False, [])
        assert bench.metric("clients") == 0


async def test_a_client_that_does_not_read_its_close_cannot_delay_the_end(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signaling.io.websocket.SHUTDOWN_TIMEOUT_SECONDS", 0.0)
    async with Bench(store, web_root) as bench:
        await bench.browser()  # its socket is never read, so it never answers
        await asyncio.wait_for(bench.service.stop(), service.STOP_TIMEOUT_SECONDS)


async def test_it_can_be_stopped_twice_and_before_it_was_started(store: AppointmentStore, web_root: Path) -> None:
    bench = Bench(store, web_root)
    assert not bench.service.ready
    await bench.service.stop()
    async with Bench(store, web_root) as other:
        await other.service.stop()
        await other.service.stop()


async def test_a_taken_port_is_told_and_leaves_nothing_open(store: AppointmentStore, web_root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bench = Bench(store, web_root)
        bench.service._settings = bench.settings.model_copy(update={"port": taken.getsockname()[1]})
        with pytest.raises(OSError, match="Address already in use"):
            await bench.service.start()
        assert not bench.service.ready
        await bench.service.stop()


async def test_every_address_is_listened_on_when_none_is_named(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root, listen_addresses=[]) as bench:
        assert any(address in {"0.0.0.0", "::"} for address, _ in bench.service.addresses)  # noqa: S104 - read only


async def test_ended_appointments_are_deleted(bench: Bench) -> None:
    ended, _ = await bench.plan(start=START - timedelta(hours=24, seconds=1))
    kept, _ = await bench.plan(start=START - timedelta(hours=24))
    await bench.service.purge()
    assert await bench.store.find(ended) is None
    assert await bench.store.find(kept) is not None


class ForgetfulStore(AppointmentStore):
    error: Exception = StoreError("broken")

    async def delete_started_before(self, instant: datetime) -> int:
        del instant
        raise self.error


async def test_a_store_that_does_not_delete_is_counted_and_tried_again(web_root: Path) -> None:
    store = ForgetfulStore("sqlite+aiosqlite:///:memory:", KEY)
    await store.open()
    async with Bench(store, web_root) as bench:
        await bench.service.purge()
        assert bench.service.ready
        assert (bench.metric("store_failures_total") or 0) >= 1
    await store.close()


async def test_a_bug_in_the_deletion_ends_readiness_and_reaches_whoever_stops(web_root: Path) -> None:
    store = ForgetfulStore("sqlite+aiosqlite:///:memory:", KEY)
    store.error = RuntimeError("a bug")
    await store.open()
    bench = Bench(store, web_root)
    await bench.service.start()
    purging = bench.service._purging
    assert purging is not None
    await asyncio.wait([purging], timeout=10)
    assert not bench.service.ready
    with pytest.raises(RuntimeError, match="a bug"):
        await bench.service.stop()
    await store.close()


class SlowStore(AppointmentStore):
    """Says when a deletion has begun and when it was done."""

    def __init__(self, url: str, key: bytes) -> None:
        super().__init__(url, key)
        self.began = asyncio.Event()
        self.done = asyncio.Event()

    async def delete_started_before(self, instant: datetime) -> int:
        self.began.set()
        deleted = await super().delete_started_before(instant)
        self.done.set()
        return deleted


async def test_a_deletion_that_goes_on_is_not_cut_off_by_the_end(tmp_path: Path, web_root: Path) -> None:
    store = SlowStore(f"sqlite+aiosqlite:///{tmp_path / 'appointments.db'}", KEY)
    await store.open()
    async with Bench(store, web_root):
        await store.began.wait()
        assert not store.done.is_set()
    assert store.done.is_set()
    await store.close()


async def test_connections_are_bounded(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SPARE_CONNECTIONS", 0)
    async with Bench(store, web_root, max_clients=2) as bench:
        port = bench.service.addresses[0][1]
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        try:
            assert await asyncio.wait_for(streams[2][0].read(1), 10) == b""
            streams[1][1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await asyncio.wait_for(streams[1][0].readline(), 10) == b"HTTP/1.1 200 OK\r\n"
        finally:
            for _, writer in streams:
                writer.transport.abort()
