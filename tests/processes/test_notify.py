"""The service under a service manager: what it tells of itself, and when (sd_notify(3))."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire_client import Server, run_relay

WATCHDOG_SECONDS = 0.9
DRAIN_SECONDS = 600


class Manager:
    """The end of systemd."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def await_word(self, word: str) -> dict[str, str]:
        """The next message that holds this word; the test fails if none comes."""
        while True:
            told = dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))
            if word in told:
                return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def managed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Manager, Server]]:
    path = tmp_path / "notify"
    with contextlib.closing(Manager(path)) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_SECONDS * 1e6)))
        with run_relay(tmp_path, drain_seconds=DRAIN_SECONDS, workers=2) as relay:
            yield manager, relay


def test_the_manager_hears_of_the_start_the_reload_and_the_end_and_that_the_loop_turns(
    managed: tuple[Manager, Server],
) -> None:
    manager, relay = managed
    assert manager.await_word("READY")["STATUS"] == "ready"
    manager.await_word("WATCHDOG")
    relay.service.reload()
    manager.await_word("RELOADING")
    manager.await_word("READY")
    manager.await_word("WATCHDOG")
    with contextlib.closing(relay.client()) as client:
        assert client.allocate().code == 0
        relay.service.terminate()
        told = manager.await_word("STOPPING")
        assert int(told["EXTEND_TIMEOUT_USEC"]) >= DRAIN_SECONDS * 1_000_000
        samples = relay.service.metrics()
        assert samples["redconnect_draining"] == 1
        assert samples["redconnect_drain_deadline_timestamp_seconds"] > 0
        assert client.refresh(0).code == 0
        relay.service.await_end()


def test_a_reload_that_fails_leaves_the_service_ready(managed: tuple[Manager, Server]) -> None:
    manager, relay = managed
    manager.await_word("READY")
    relay.service.reload({"relay": {"realm": ""}}, result="failure")
    manager.await_word("RELOADING")
    manager.await_word("READY")
