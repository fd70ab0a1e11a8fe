import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.notify import Notifier

FAST = 0.03  # seconds: a watchdog of nobody's patience


class Manager:
    """The service manager's end: what it has been told, one message after the other."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)  # noqa: FBT003  # its only argument

    def hear(self) -> list[dict[str, str]]:
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(4096).decode().split("\n")
                told.append(dict(line.split("=", 1) for line in lines))
        return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@redconnect-test-{os.getpid()}"
    with contextlib.closing(Manager(address)) as listening:
        yield listening


async def test_the_manager_is_told_each_step_of_a_life(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.tell_ready()
    notifier.tell_reloading()
    notifier.tell_ready()
    notifier.tell_stopping(600)
    await notifier.close()
    ready, reloading, again, stopping = manager.hear()
    assert ready["READY"] == again["READY"] == "1"
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) >= before
    assert stopping["STOPPING"] == "1"
    assert "600 s" in stopping["STATUS"]


async def test_the_manager_waits_longer_than_the_drain_takes(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.tell_stopping(600)
    await notifier.close()
    assert int(manager.hear()[0]["EXTEND_TIMEOUT_USEC"]) > 600 * 1_000_000


async def test_a_reload_that_the_end_overtakes_does_not_make_the_service_ready_again(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.tell_stopping(0)
    notifier.tell_reloading()
    notifier.tell_ready()
    await notifier.close()
    assert [(told.get("READY"), told.get("RELOADING")) for told in manager.hear()] == [(None, None)]


async def test_the_watchdog_is_fed_again_and_again_by_a_loop_that_turns(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(int(FAST * 1e6))}
    notifier = Notifier.from_environment(environment)
    notifier.tell_ready()
    fed = 0
    async with asyncio.timeout(10):
        while fed < 3:
            await asyncio.sleep(0)
            fed += sum("WATCHDOG" in told for told in manager.hear())
    await notifier.close()


async def test_a_loop_that_hangs_does_not_feed_the_watchdog(manager: Manager) -> None:
    notifier = Notifier(manager.address, FAST)
    notifier.tell_ready()
    await asyncio.sleep(0)
    manager.hear()
    hangs_until = time.monotonic() + 3 * FAST
    while time.monotonic() < hangs_until:
        pass
    assert manager.hear() == []
    await notifier.close()


async def test_a_watchdog_of_another_process_is_not_fed(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    notifier = Notifier.from_environment(environment, pid=2)
    notifier.tell_ready()
    await asyncio.sleep(0)
    assert [told.get("WATCHDOG") for told in manager.hear()] == [None]
    await notifier.close()


async def test_without_a_manager_nothing_is_told_and_nothing_fails() -> None:
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000"})
    notifier.tell_ready()
    notifier.tell_reloading()
    notifier.tell_stopping(0)
    await notifier.close()


async def test_a_manager_that_has_gone_is_complained_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.tell_reloading()
    notifier.tell_reloading()
    await notifier.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No such file" in caplog.text


def test_a_period_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="soon"):
        Notifier.from_environment({"WATCHDOG_USEC": "soon"})
