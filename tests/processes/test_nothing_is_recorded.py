"""What the relay carries is nowhere on the disk: not in its state, not in its log, not in a file that it has open."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stun.address import TransportAddress
from tests.support.ports import free_port
from tests.support.wire_client import Peer, Server, run_relay

CHANNEL: Final = 0x4000
MARK: Final = b"what two people say to each other"
WRITABLE: Final = 0o3  # O_WRONLY and O_RDWR


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_relay(
        tmp_path_factory.mktemp("recorded"),
        services=("relay", "signaling"),
        signaling={"port": free_port()},
    ) as server:
        yield server


def files_open_for_writing(pid: int) -> set[Path]:
    """Regular files that a process may write to now, short of what only its memory has (memfd)."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if not stat.S_ISREG(entry.stat().st_mode):
            continue
        flags = next(
            line.split()[1]
            for line in Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().splitlines()
            if line.startswith("flags:")
        )
        if int(flags, 8) & WRITABLE and not str(entry.readlink()).startswith("/memfd:"):
            found.add(entry.readlink())
    return found


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "dtls"])
def test_what_is_relayed_is_found_in_no_file(relay: Server, transport: str) -> None:
    folder = relay.service.config.parent
    client, peer = relay.client(transport), Peer("127.0.0.1")
    try:
        relayed: TransportAddress = client.relayed()
        assert client.bind(CHANNEL, peer.address).code == 0
        client.send_through(CHANNEL, MARK + b" through a channel")
        client.send_to(peer.address, MARK + b" by an indication")
        assert all(peer.receive()[0].startswith(MARK) for _ in range(2))
        peer.send(MARK + b" back", relayed)
        assert MARK in client.receive()
        open_now = files_open_for_writing(relay.service.pid)
        assert relay.service.log in open_now
        assert {path.name.split(".sqlite3")[0] for path in open_now} <= {"service.log", "redconnect", "ctl.lock"}
        assert all(path.is_relative_to(folder) for path in open_now)
    finally:
        client.close()
        peer.close()
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert relay.service.log in written
    assert [path for path in written if MARK in path.read_bytes()] == []
