import contextlib
import socket
from collections.abc import Iterator

import pytest

from relay.five_tuple import Transport
from relay.io.listening import BindError, BoundSocket, bind_everywhere, close_all
from relay.settings import RelaySettings
from tests.support.ports import free_port

HOST = "127.0.0.1"


def settings(**ports: list[int]) -> RelaySettings:
    empty: dict[str, list[int]] = {"udp_ports": [], "tcp_ports": [], "tls_ports": []}
    return RelaySettings.model_validate({"listen_addresses": [HOST], **empty, **ports})


@contextlib.contextmanager
def bound(relay: RelaySettings, copies: int) -> Iterator[list[list[BoundSocket]]]:
    sockets = bind_everywhere(relay, copies)
    try:
        yield sockets
    finally:
        close_all(sockets)


def test_every_copy_has_every_port() -> None:
    udp, tcp, tls = free_port(), free_port(), free_port()
    with bound(settings(udp_ports=[udp], tcp_ports=[tcp], tls_ports=[tls]), 3) as copies:
        expected = [(Transport.UDP, HOST, udp), (Transport.TCP, HOST, tcp), (Transport.TLS, HOST, tls)]
        assert [[entry[:3] for entry in copy] for copy in copies] == [expected] * 3
        assert len({entry.sock.fileno() for copy in copies for entry in copy}) == 9


def test_the_kernel_spreads_flows_and_a_flow_stays() -> None:
    port = free_port()
    with bound(settings(udp_ports=[port]), 2) as copies, contextlib.ExitStack() as stack:
        seen: set[tuple[str, int]] = set()
        for _ in range(64):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(3):
                client.sendto(b"x", (HOST, port))
        for copy in copies:
            senders = list(arrivals(copy[0].sock))
            assert len(senders) == 3 * len(set(senders))
            assert senders
            assert not seen & set(senders)
            seen |= set(senders)
        assert len(seen) == 64


def test_a_single_copy_shares_with_nobody() -> None:
    relay = settings(udp_ports=[free_port()])
    with bound(relay, 1), pytest.raises(BindError, match="cannot listen on UDP"):
        bind_everywhere(relay, 2)


def test_copies_share_with_no_other_service() -> None:
    relay = settings(tcp_ports=[free_port()])
    with bound(relay, 2), pytest.raises(BindError, match="cannot listen on TCP"):
        bind_everywhere(relay, 2)


def test_a_port_that_is_taken_leaves_none_bound() -> None:
    free, taken = free_port(), free_port()
    with socket.socket() as rival:
        rival.bind((HOST, taken))
        rival.listen()
        with pytest.raises(BindError, match=f"cannot listen on TCP {HOST}:{taken}: Address already in use"):
            bind_everywhere(settings(udp_ports=[free], tcp_ports=[taken]), 2)
    with bound(settings(udp_ports=[free], tcp_ports=[taken]), 1) as copies:
        assert len(copies[0]) == 2


def arrivals(sock: socket.socket) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recvfrom(16)[1]
