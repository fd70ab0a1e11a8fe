"""One TCP port for the pages and for TURN over TLS: all that many hospitals let out."""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from stun.credentials import issue_credential
from tests.support.browser import Participant, watch_both
from tests.support.ports import free_port
from tests.support.wire_client import SECRET, Peer, Server, run_relay

WISH = {"relayOnly": True, "scheme": "turns:", "suffix": "transport=tcp"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    signaling = {
        "port": free_port(),
        "listen_addresses": ["127.0.0.1"],
        "public_url": f"https://localhost:{port}",
        "ice": {"host": "localhost"},
    }
    with run_relay(
        tmp_path_factory.mktemp("shared"),
        services=["relay", "signaling"],
        signaling=signaling,
        tls_ports=[port],
        udp_ports=[],
        tcp_ports=[],
        relay_addresses=[],  # that of the default route: the browsers meet there
        share_with_pages=True,
    ) as server:
        yield server._replace(ports={"tls": port})


@pytest.mark.long
def test_a_consultation_over_nothing_but_the_shared_port(shared: Server, invite: Callable[..., Participant]) -> None:
    codes = shared.service.create_appointment()
    doctor, patient = invite(wish=WISH), invite(wish=WISH)
    for participant, link, name in (
        (doctor, codes.organiser_link, "Dr. Anna Beispiel"),
        (patient, codes.participant_link, "Petra Muster"),
    ):
        assert link.startswith(f"https://localhost:{shared.ports['tls']}/")
        participant.open(link)
        participant.join(name)
    for participant in (doctor, patient):
        participant.await_connected()
    watch_both(doctor, patient, seconds=4)
    for participant in (doctor, patient):
        figures = participant.figures()
        assert (figures["local"], figures["relayProtocol"]) == ("relay", "tls")
        used = {url.split("/")[2] for url in participant.requested if "://" in url}
        assert used == {f"localhost:{shared.ports['tls']}"}
    metrics = shared.service.metrics()
    assert metrics['redconnect_relay_connections{transport="tls"}'] >= 2
    assert metrics['redconnect_relay_allocations{family="ipv4",transport="tls"}'] >= 2
    doctor.hang_up()


def test_coturns_client_gets_through_the_shared_port_while_the_page_is_open(
    shared: Server, invite: Callable[..., Participant]
) -> None:
    visitor = invite()
    visitor.open(f"https://localhost:{shared.ports['tls']}/")
    with contextlib.closing(shared.client("tls")) as client, contextlib.closing(Peer("127.0.0.1")) as peer:
        relayed = client.relayed()
        assert client.permit(peer.address).code == 0
        client.send_to(peer.address, b"beside the pages")
        assert peer.receive()[0] == b"beside the pages"
        assert relayed.port >= 49152
    result = turnutils(shared)
    assert "Total lost packets 0 (" in result, result[-2000:]
    assert len(set(re.findall(r"tot_(?:send|recv)_bytes ~ (\d+)", result.rpartition("Total transmit")[0])[-2:])) == 1
    assert visitor.page.evaluate("() => fetch('/').then((answer) => answer.status)") == 200
    strict = "() => fetch('/').then((answer) => answer.headers.get('Strict-Transport-Security'))"
    assert visitor.page.evaluate(strict) == "max-age=31536000"


def turnutils(shared: Server) -> str:
    credential = issue_credential(SECRET.encode(), int(time.time()) + 3600, "x")
    words = ["turnutils_uclient", "-t", "-S", "-c", "-n", "8", "-m", "2", "-l", "170", "-X"]
    words += ["-p", str(shared.ports["tls"]), "-u", credential.username, "-w", credential.password]
    echo = str(free_port())
    peer = subprocess.Popen(
        ["turnutils_peer", "-p", echo, "-L", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        words += ["-e", "127.0.0.1", "-r", echo, "127.0.0.1"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    finally:
        peer.terminate()
        peer.wait(timeout=10)
    return done.stdout + done.stderr


def test_http_without_tls_is_not_answered_on_the_shared_port(shared: Server) -> None:
    with socket.create_connection(("127.0.0.1", shared.ports["tls"]), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""
