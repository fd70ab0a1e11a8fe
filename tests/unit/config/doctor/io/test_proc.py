import os
import socket

import pytest

from config.doctor.facts import Bound, Endpoint
from config.doctor.io.proc import (
    CAP_BPF,
    CAP_NET_ADMIN,
    bound_sockets,
    has_capability,
    parse_hard_limit,
    parse_ranges,
    parse_sockets,
    parse_status,
    parse_udp_counters,
    process_file,
)

UDP = """   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
 3999: 0100007F:0D96 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 111 2 0 0
 7392: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 222 2 0 0
 7393: 00000000:0000 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 333 2 0 0
garbage
"""
TCP6 = """  sl  local_address   remote_address   st tx rx tr tm retr uid timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 444 1
   1: B80D0120000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 555 1
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 666 1
   3: 00000000000000000000000000000000:1F93 00000000000000000000000000000000:0000 01 0:0 0:0 0 0 0 777 1
"""


def test_udp_sockets_with_a_port_are_read() -> None:
    found = [(entry.endpoint, entry.inode) for entry in parse_sockets(UDP, "UDP")]
    assert found == [(Endpoint("UDP", "127.0.0.1", 3478), 111), (Endpoint("UDP", "", 5353), 222)]


def test_tcp_sockets_that_listen_are_read() -> None:
    found = [str(entry.endpoint) for entry in parse_sockets(TCP6, "TCP")]
    assert found == ["TCP *:8080", "TCP [2001:db8::1]:8081", "TCP 127.0.0.1:8082"]


def test_our_own_socket_is_found_with_us_as_its_holder() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        mine = [each for each in bound_sockets() if each.endpoint.port == sock.getsockname()[1]]
    assert [type(each) for each in mine] == [Bound]
    assert mine[0].holder is not None and mine[0].holder.pid == os.getpid()


@pytest.mark.parametrize(
    ("text", "ranges"), [("\n", ()), ("3000\n", ((3000, 3000),)), ("1024-2047,3000\n", ((1024, 2047), (3000, 3000)))]
)
def test_reserved_ports_are_read(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert parse_ranges(text) == ranges


def test_counters_of_udp_are_read() -> None:
    text = "Udp: InDatagrams NoPorts RcvbufErrors\nUdp: 100 2 3\n"
    assert parse_udp_counters(text) == {"InDatagrams": 100, "NoPorts": 2, "RcvbufErrors": 3}
    assert parse_udp_counters("Tcp: a\nTcp: 1\n") == {}


def test_limits_and_capabilities_are_read() -> None:
    line = "Max open files            1024                 {}              files     \n"
    assert parse_hard_limit(line.format(4096)) == 4096
    assert parse_hard_limit(line.format("unlimited")) > 1 << 40
    with pytest.raises(ValueError, match="no limit"):
        parse_hard_limit("")
    status = parse_status("Name:\tx\nCapEff:\t0000000000001000\n")
    assert has_capability(status, CAP_NET_ADMIN) and not has_capability(status, CAP_BPF)


def test_this_process_can_be_read() -> None:
    assert parse_hard_limit(process_file(0, "limits")) > 0
    assert parse_status(process_file(os.getpid(), "status"))["Pid"] == str(os.getpid())
