"""The sockets of the packet path, in Python and in C: one contract for both."""

import contextlib
import gc
import os
import select
import socket
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.io.datapath.datagrams import Datagram, DatagramSocket
from tests.support.twins import load_native, load_source

SLOTS = 4
HEADROOM = 48


@pytest.fixture(scope="module", params=[load_source, load_native], ids=["python", "native"])
def datagrams(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param("relay.io.datapath.datagrams")
    return module


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one, socket.socket(family, socket.SOCK_DGRAM) as other:
        for sock in (one, other):
            sock.bind((request.param, 0))
            sock.setblocking(False)  # noqa: FBT003  # its only argument
        yield one, other


def receive_all(receiver: DatagramSocket, count: int) -> list[Datagram]:
    received: list[Datagram] = []
    while len(received) < count:
        received += receiver.receive()
    return received


def test_a_datagram_lies_behind_the_headroom_with_its_size_sender_and_first_bytes(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    inbox = datagrams.Inbox(SLOTS, HEADROOM, 4)
    receiver = datagrams.DatagramSocket(other, inbox)
    one.sendto(b"\x40\x01\x00\x05hello", other.getsockname())
    assert receiver.receive() == [(9, 0, one.getsockname(), 0x40010005)]
    assert inbox.headroom == HEADROOM
    assert inbox.views[0][HEADROOM : HEADROOM + 9] == b"\x40\x01\x00\x05hello"
    assert all(len(view) == HEADROOM + datagrams.MAX_DATAGRAM + 4 and not view.readonly for view in inbox.views)


def test_a_sender_is_the_same_object_or_equal_each_time(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    receiver = datagrams.DatagramSocket(other, datagrams.Inbox(SLOTS))
    for _ in range(3):
        one.sendto(b"x", other.getsockname())
    assert [sender for _, _, sender, _ in receive_all(receiver, 3)] == [one.getsockname()] * 3


def test_nothing_is_received_from_an_empty_socket(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    receiver = datagrams.DatagramSocket(pair[1], datagrams.Inbox(SLOTS))
    assert receiver.receive() == []


def test_no_more_is_taken_at_once_than_the_inbox_has_slots(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    inbox = datagrams.Inbox(SLOTS)
    receiver = datagrams.DatagramSocket(other, inbox)
    contents: list[bytes] = []
    for number in range(100):
        one.sendto(bytes([number]) * 8, other.getsockname())
    while len(contents) < 100:
        batch = receiver.receive()
        assert 1 <= len(batch) <= SLOTS
        contents += [bytes(inbox.views[slot][:size]) for slot, (size, *_) in enumerate(batch)]
    assert contents == [bytes([number]) * 8 for number in range(100)]


def test_an_empty_datagram_has_size_zero_and_the_largest_arrives_whole(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    inbox = datagrams.Inbox(SLOTS)
    receiver = datagrams.DatagramSocket(other, inbox)
    largest = os.urandom(65507)
    one.sendto(b"", other.getsockname())
    one.sendto(largest, other.getsockname())
    sizes: list[int] = []
    last = b""
    while len(sizes) < 2:
        batch = receiver.receive()
        sizes += [size for size, *_ in batch]
        last = bytes(inbox.views[len(batch) - 1][: sizes[-1]])
    assert sizes == [0, 65507]
    assert last == largest


def test_a_joined_run_tells_the_size_of_its_datagrams_and_a_single_one_does_not(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    receiver = datagrams.DatagramSocket(other, datagrams.Inbox(SLOTS))
    assert receiver.join() is True
    sender = datagrams.DatagramSocket(one, datagrams.Inbox(1))
    sender.send_run(b"x" * 900 + b"y", 0, 901, 100, datagrams.target(other.getsockname()))
    one.sendto(b"alone", other.getsockname())
    assert [(size, segment) for size, segment, *_ in receive_all(receiver, 2)] == [(901, 100), (5, 0)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), cut=st.tuples(st.integers(0, 200), st.integers(0, 200)))
def test_what_lies_between_start_and_stop_is_sent(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket], data: bytes, cut: tuple[int, int]
) -> None:
    one, other = pair
    sender = datagrams.DatagramSocket(one, datagrams.Inbox(1))
    start, stop = sorted(min(at, len(data)) for at in cut)
    to = datagrams.target(other.getsockname())
    for form in (data, memoryview(data), memoryview(bytearray(data))):
        sender.send(form, start, stop, to)
        assert other.recvfrom(65536) == (data[start:stop], one.getsockname())


@pytest.mark.parametrize(("count", "last"), [(1, 0), (2, 0), (64, 0), (8, 1), (63, 99)])
def test_a_run_arrives_as_its_datagrams(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket], count: int, last: int
) -> None:
    one, other = pair
    sent = [os.urandom(100) for _ in range(count)] + ([os.urandom(last)] if last else [])
    data = memoryview(b"before" + b"".join(sent) + b"behind")
    sender = datagrams.DatagramSocket(one, datagrams.Inbox(1))
    sender.send_run(data, 6, len(data) - 6, 100, datagrams.target(other.getsockname()))
    assert [other.recv(200) for _ in sent] == sent


def test_a_run_that_cannot_be_cut_says_so_and_nothing_of_it_is_sent(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    sender = datagrams.DatagramSocket(one, datagrams.Inbox(1))
    with pytest.raises(OSError, match="Invalid argument"):
        sender.send_run(bytes(1000), 0, 1000, 1, datagrams.target(other.getsockname()))  # 1000 pieces
    with pytest.raises(BlockingIOError):
        other.recv(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.binary(max_size=8), payload=st.binary(max_size=20), align=st.integers(1, 4))
def test_a_part_is_sent_behind_a_head_with_zeros_behind_it(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket], head: bytes, payload: bytes, align: int
) -> None:
    one, other = pair
    sender = datagrams.DatagramSocket(one, datagrams.Inbox(1))
    to = datagrams.target(other.getsockname())
    buffer = bytearray(b"\xff" * len(head) + payload + b"\xff" * (align - 1))
    sender.send_behind(head, memoryview(buffer), len(head), len(head) + len(payload), align, to)
    assert other.recv(100) == head + payload + bytes(-len(payload) % align)
    for start, stop in ((len(head) - 1, len(head)), (len(head), len(buffer) - align + 2), (len(head) + 1, len(head))):
        with pytest.raises(ValueError, match="nothing lies there"):
            sender.send_behind(head, memoryview(buffer), start, stop, align, to)
    sender.send_behind(0x40010005, memoryview(bytearray(4) + buffer), 4 + len(head), 4 + len(head), 1, to)
    assert other.recv(100) == b"\x40\x01\x00\x05"
    for number in (-1, 1 << 32, 1 << 70):
        with pytest.raises(OverflowError):
            sender.send_behind(number, memoryview(bytearray(8)), 4, 8, 1, to)
    for wrong in (0, 5, -1):
        with pytest.raises(ValueError, match="nothing lies there"):
            sender.send_behind(head, memoryview(buffer), len(head), len(head), wrong, to)


def test_an_epoll_object_tells_what_is_ready(datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    with select.epoll() as epoll:
        for sock in pair:
            epoll.register(sock, select.EPOLLIN)
        assert datagrams.ready(epoll, epoll.fileno()) == []
        one.sendto(b"x", other.getsockname())
        assert datagrams.ready(epoll, epoll.fileno()) == [(other.fileno(), select.EPOLLIN)]
        other.sendto(b"x", one.getsockname())
        assert sorted(datagrams.ready(epoll, epoll.fileno())) == sorted(
            (sock.fileno(), select.EPOLLIN) for sock in pair
        )


def test_no_more_is_told_at_once_than_a_round_deals_with(datagrams: ModuleType) -> None:
    with contextlib.ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        descriptors: set[int] = set()
        for _ in range(70):
            reader, writer = (
                os.fdopen(end, mode, buffering=0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            )
            stack.enter_context(reader)
            stack.enter_context(writer)
            writer.write(b"x")
            epoll.register(reader, select.EPOLLIN)
            descriptors.add(reader.fileno())
        told = [descriptor for descriptor, _ in datagrams.ready(epoll, epoll.fileno())]
        assert len(told) == len(set(told)) == 64
        assert descriptors.issuperset(told)


def test_more_senders_than_are_remembered_are_told_apart(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    receiver = datagrams.DatagramSocket(other, datagrams.Inbox(SLOTS))
    with contextlib.ExitStack() as stack:
        senders = [stack.enter_context(socket.socket(one.family, socket.SOCK_DGRAM)) for _ in range(300)]
        for _ in range(3):
            for sender in senders:
                sender.sendto(b"x", other.getsockname())
                ((_, _, address, _),) = receive_all(receiver, 1)
                assert address == (*one.getsockname()[:1], sender.getsockname()[1], *one.getsockname()[2:])


def test_a_datagram_that_is_too_long_is_refused_and_the_next_one_is_sent(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    sender = datagrams.DatagramSocket(one, datagrams.Inbox(1))
    to = datagrams.target(other.getsockname())
    with pytest.raises(OSError, match="too long"):
        sender.send(bytes(66_000), 0, 66_000, to)
    sender.send(b"short", 0, 5, to)
    assert other.recv(100) == b"short"


def test_an_error_of_an_earlier_datagram_costs_neither_the_next_one_sent_nor_received(datagrams: ModuleType) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)  # noqa: FBT003  # its only argument
        one.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: errors of unconnected sockets are told, too
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = closed.getsockname()
        link = datagrams.DatagramSocket(one, datagrams.Inbox(SLOTS))
        link.send(b"refused", 0, 7, datagrams.target(nobody))
        link.send(b"goes", 0, 4, datagrams.target(other.getsockname()))
        assert other.recv(100) == b"goes"
        link.send(b"refused", 0, 7, datagrams.target(nobody))
        link.send_run(b"gonetoo", 0, 7, 4, datagrams.target(other.getsockname()))
        assert [other.recv(100) for _ in range(2)] == [b"gone", b"too"]
        link.send(b"refused", 0, 7, datagrams.target(nobody))
        other.sendto(b"comes", one.getsockname())
        assert [size for size, *_ in receive_all(link, 1)] == [5]


def test_a_closed_socket_sends_and_receives_nothing_even_if_its_number_is_used_again(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    with socket.socket(one.family, socket.SOCK_DGRAM) as sock:
        sock.bind((one.getsockname()[0], 0))
        sock.setblocking(False)  # noqa: FBT003  # its only argument
        closed = datagrams.DatagramSocket(sock, datagrams.Inbox(SLOTS))
        closed.close()
        with socket.socket(one.family, socket.SOCK_DGRAM) as heir:  # the lowest free number
            heir.bind((one.getsockname()[0], 0))
            one.sendto(b"for the heir", heir.getsockname())
            assert closed.receive() == []
            with pytest.raises(OSError, match="Bad file descriptor"):
                closed.send(b"x", 0, 1, datagrams.target(other.getsockname()))
            assert heir.recv(100) == b"for the heir"


@pytest.mark.parametrize("arguments", [(0,), (-1,), (1025,), (1, -1), (1, 65537), (1, 0, -1), (1, 0, 65537)])
def test_an_inbox_of_impossible_size_is_refused(datagrams: ModuleType, arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        datagrams.Inbox(*arguments)


def test_nothing_is_sent_that_does_not_lie_in_the_buffer(
    datagrams: ModuleType, pair: tuple[socket.socket, socket.socket]
) -> None:
    sender = datagrams.DatagramSocket(pair[0], datagrams.Inbox(1))
    to = datagrams.target(pair[1].getsockname())
    assert datagrams.MAX_SEGMENT == 65535
    for start, stop in ((-1, 2), (0, 5), (3, 2), (5, 5)):
        with pytest.raises(ValueError, match="nothing lies there"):
            sender.send(b"1234", start, stop, to)
        with pytest.raises(ValueError, match="nothing lies there"):
            sender.send_run(b"1234", start, stop, 2, to)
    for size in (0, -1, 65536):
        with pytest.raises(ValueError, match="impossible size"):
            sender.send_run(b"1234", 0, 4, size, to)


def test_the_native_form_refuses_what_would_read_foreign_memory(pair: tuple[socket.socket, socket.socket]) -> None:
    module = load_native("relay.io.datapath.datagrams")
    sender = module.DatagramSocket(pair[0], module.Inbox(1))
    to = module.target(pair[1].getsockname())
    with pytest.raises((TypeError, BufferError)):
        sender.send_behind(b"r", b"read only", 1, 9, 1, to)
    with pytest.raises(OSError, match="Bad file descriptor"):
        module.ready(None, 1 << 20)
    for wrong in (pair[1].getsockname(), None, "text"):
        with pytest.raises(TypeError):
            sender.send(b"1234", 0, 4, wrong)
        with pytest.raises(TypeError):
            sender.send_run(b"1234", 0, 4, 2, wrong)
        with pytest.raises(TypeError):
            sender.send_behind(b"", bytearray(4), 0, 4, 1, wrong)
    for address in (("name", 1), ("1.2.3.4", -1), ("1.2.3.4", 65536), ("::1", 1), ("1.2.3.4", 1, 0, 0)):
        with pytest.raises(ValueError, match="no numeric"):
            module.target(address)


def test_the_native_form_keeps_no_reference_too_many(pair: tuple[socket.socket, socket.socket]) -> None:
    module = load_native("relay.io.datapath.datagrams")
    one, other = pair
    receiver = module.DatagramSocket(other, module.Inbox(SLOTS))
    to = module.target(other.getsockname())
    sender = module.DatagramSocket(one, module.Inbox(1))

    buffer = bytearray(64)

    def exchange() -> int:
        for _ in range(2000):
            sender.send(b"12345678", 0, 8, to)
            sender.send_run(b"12345678", 0, 8, 4, to)
            receiver.receive()
            sender.send_behind(b"head", buffer, 4, 8, 4, to)
            module.ready(epoll, epoll.fileno())
            receiver.receive()
        gc.collect()
        return sys.getallocatedblocks()

    with select.epoll() as epoll:
        epoll.register(other, select.EPOLLOUT)
        exchange()
        before = exchange()
        assert abs(exchange() - before) < 200
