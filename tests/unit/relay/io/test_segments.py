"""Runs of datagrams: over loopback a run stays one until a socket takes it; what kernels refuse, a fake refuses."""

import errno
import socket
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.io.clients import Buffer
from relay.io.datapath.datagrams import MAX_DATAGRAM, MAX_SEGMENT, DatagramSocket, Inbox, Target
from relay.io.datapath.segments import (
    MAX_RUN,
    MAX_SEGMENTS,
    Destination,
    kernel_cuts,
    max_run,
    send_run,
)

TO = ("127.0.0.1", 9)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
        yield one, other


class Reluctant:
    """A socket that fails as it is told, call by call, and remembers what it was asked to send."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.runs: list[bytes] = []
        self.sent: list[bytes] = []

    def send_run(self, data: Buffer, start: int, stop: int, _size: int, _to: Target) -> None:
        self._fail()
        self.runs.append(bytes(data[start:stop]))

    def send(self, data: Buffer, start: int, stop: int, _to: Target) -> None:
        self._fail()
        self.sent.append(bytes(data[start:stop]))

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else 0
        if failure:
            raise OSError(failure, "refused")

    @property
    def sock(self) -> DatagramSocket:
        return cast("DatagramSocket", self)


def test_this_kernel_cuts() -> None:
    assert kernel_cuts()  # or most of what follows would prove nothing


def test_a_run_arrives_as_datagrams_where_nobody_joins(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    data = memoryview(b"..head1234head5678head9..")
    send_run(DatagramSocket(one, Inbox(1)), data, 2, 23, 8, Destination(other.getsockname()))
    assert [other.recv(100) for _ in range(3)] == [b"head1234", b"head5678", b"head9"]


@given(st.integers(1, 65507))
def test_the_longest_run_fits_what_the_kernel_takes(size: int) -> None:
    count = max_run(size)
    assert 1 <= count <= MAX_SEGMENTS
    assert count * size <= MAX_RUN
    assert count == MAX_SEGMENTS or (count + 1) * size > MAX_RUN


@pytest.mark.parametrize("size", [1, 1023, 1024, 1400, 65507])
def test_the_longest_run_is_taken_by_the_kernel(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    one, other = pair
    to = Destination(other.getsockname())
    whole = size * max_run(size)
    send_run(DatagramSocket(one, Inbox(1)), bytes(whole), 0, whole, size, to)
    assert to.max_segment == MAX_SEGMENT  # it was not sent one by one
    assert [len(other.recv(MAX_DATAGRAM)) for _ in range(max_run(size))] == [size] * max_run(size)


@pytest.mark.parametrize("failure", [errno.EINVAL, errno.EMSGSIZE])
def test_a_segment_that_does_not_fit_is_sent_singly_from_then_on(failure: int) -> None:
    fake, to = Reluctant(failure), Destination(TO)
    send_run(fake.sock, b"123456789", 0, 9, 4, to)
    send_run(fake.sock, b"12345678", 0, 8, 4, to)
    assert (fake.runs, fake.sent) == ([], [b"1234", b"5678", b"9", b"1234", b"5678"])
    send_run(fake.sock, b"123456", 0, 6, 3, to)  # a smaller one may fit
    assert fake.runs == [b"123456"]


@pytest.mark.parametrize("failure", [errno.EIO, errno.EOPNOTSUPP])
def test_where_nothing_can_be_cut_everything_is_sent_singly(failure: int) -> None:
    fake, to = Reluctant(failure), Destination(TO)
    send_run(fake.sock, b"12345678", 0, 8, 4, to)
    send_run(fake.sock, b"12", 0, 2, 1, to)
    assert (fake.runs, fake.sent) == ([], [b"1234", b"5678", b"1", b"2"])
    other = Destination(TO)
    send_run(fake.sock, b"12", 0, 2, 1, other)  # another destination is not to blame
    assert fake.runs == [b"12"]


def test_an_old_kernel_is_not_asked_to_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.datapath.segments.kernel_cuts", lambda: False)
    fake = Reluctant()
    send_run(fake.sock, b"1234", 0, 4, 2, Destination(TO))
    assert (fake.runs, fake.sent) == ([], [b"12", b"34"])


def test_an_error_that_does_not_concern_cutting_is_raised_and_not_held_against_the_next() -> None:
    fake, to = Reluctant(errno.ENETUNREACH), Destination(TO)
    with pytest.raises(OSError, match="refused"):
        send_run(fake.sock, b"1234", 0, 4, 2, to)
    assert (fake.runs, fake.sent) == ([], [])
    send_run(fake.sock, b"1234", 0, 4, 2, to)
    assert fake.runs == [b"1234"]


def test_one_failure_among_single_datagrams_does_not_stop_the_others_and_is_raised() -> None:
    fake, to = Reluctant(0, errno.EAGAIN), Destination(TO)
    to.max_segment = 0
    with pytest.raises(BlockingIOError):
        send_run(fake.sock, b"123456", 0, 6, 2, to)
    assert fake.sent == [b"12", b"56"]
