"""The conference server under the benchmark's own load, small: the tools tell the truth, what is lost is repaired."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.sfu import SFUBENCH, Ours
from tests.bench.sfu_clients import Client, Peer

START_SECONDS = 15.0
SUBSCRIBERS = 2


@pytest.fixture(scope="module")
def sfubench() -> Path:
    subprocess.run(["make", "-s", "-C", str(SFUBENCH)], check=True)
    return SFUBENCH / "sfubench"


def _bound(kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Ours]:
    with _bound() as free:
        port = free.getsockname()[1]
    path = tmp_path / "control"
    words = [sys.executable, "-m", "tests.bench.sfu_server", "127.0.0.1", str(port), str(path)]
    with subprocess.Popen(words) as process, socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(START_SECONDS)
            deadline = time.monotonic() + START_SECONDS
            while not path.exists() and time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
            sock.connect(str(path))
            yield Ours(sock)
        finally:
            process.terminate()


def _connected(server: Ours, stack: contextlib.ExitStack) -> list[Peer]:
    client = Client(0, stack.enter_context(_bound()))
    peers = [client.publisher(server.publish(client.offer()))]
    for number in range(SUBSCRIBERS):
        client = Client(1 + number, stack.enter_context(_bound()))
        subscriber, offer = server.subscribe()
        server.start(subscriber, client.answer(offer))
        peers.append(client.subscriber(offer))
    return peers


def _run(sfubench: Path, peers: list[Peer], *words: str) -> dict[str, Any]:
    command = [str(sfubench), "--seconds", "0.5", "--warmup", "0.3", *words]
    done = subprocess.run(
        command,
        input="".join(f"{peer.plan}\n" for peer in peers),
        pass_fds=[peer.sock.fileno() for peer in peers],
        capture_output=True,
        text=True,
        check=True,
    )
    row: dict[str, Any] = json.loads(done.stdout)
    return row


@pytest.mark.parametrize("words", [(), ("--burst", "4", "--drop", "10")], ids=["all arrives", "a tenth is lost"])
def test_every_packet_reaches_every_subscriber_once(sfubench: Path, server: Ours, words: tuple[str, ...]) -> None:
    with contextlib.ExitStack() as stack:
        row = _run(sfubench, _connected(server, stack), *words)
    assert row["sent"] > 0
    assert row["expected"] == SUBSCRIBERS * row["sent"]
    assert row["unique"] == row["expected"]
    assert (row["duplicate"], row["unauthentic"]) == (0, 0)
    assert (row["nacks_sent"] > 0) is (row["dropped"] > 0) is bool(words)
    assert row["feedback_heard"] > 0


def test_a_plan_that_makes_no_sense_is_refused(sfubench: Path) -> None:
    done = subprocess.run([str(sfubench)], input="pub 3 nothing\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "fields in pub 3 nothing" in done.stderr
