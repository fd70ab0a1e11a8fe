"""The last steps of a packet in C: the suite of all engines, the same bytes as Python's, and hostile arguments."""

import contextlib
import importlib.util
import random
import socket
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import native
from sfu.bandwidth import BandwidthEstimator
from sfu.io.engine.py_engine import PyEngine
from sfu.io.engine.srtp import MAX_RTP, SrtpSession
from sfu.media_engine import DownTrack, DownTrackId, Kind, MediaEvent, SessionId, SrtpKeys, SrtpProfile
from sfu.rtcp import encode_nack, encode_transport_wide
from sfu.transport_feedback import TransportFeedback, encode_transport_feedback
from stun.address import TransportAddress
from tests.support.engine_contract import (
    AGREED,
    CAMERA,
    PICTURE,
    VP8_DOWN,
    Camera,
    EngineContract,
    Send,
    Stage,
    stage,
)

if TYPE_CHECKING:
    from sfu.io.express import Lane, Outbox

__all__ = ["stage"]  # a fixture of the suite

NAME = "sfu.io.express"
KEYS = SrtpKeys(SrtpProfile.AEAD_AES_256_GCM, bytes(44), bytes(range(44)))
HERE = TransportAddress(bytes([127, 0, 0, 1]), 9)
NUMBERS = (1, 1, 1, 0, 0, 0, 0, 0, 0)
PLACES = (0, 0, 0, 0, 0, 0)


def load() -> ModuleType:
    (path,) = (native.TREE / "sfu" / "io").glob("express.*.so")
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


express = load()


class TestPyEngineWithExpress(EngineContract):
    @staticmethod
    def make_engine(send: Send) -> PyEngine:
        return PyEngine(send, express=express)


CAROL = SessionId(3)
HERS = DownTrackId(40)  # she gets the camera, too, but no Dependency Descriptors
ACTIONS: Final = (
    *("send",) * 6,
    *("following", "lose", "hold", "release", "repair", "pad", "jump", "key", "nack", "feedback", "want"),
    *("temporal", "unroute", "route", "move", "pump"),
)


class Twin(Stage):
    """A stage that writes down each datagram; what is random is the same in each of them."""

    def __init__(self, module: ModuleType | None, *, picture_id: int | None, estimates: bool) -> None:
        self.sent: dict[TransportAddress, list[bytes]] = {}
        self.events: list[MediaEvent] = []
        bits = random.Random(5).getrandbits  # noqa: S311  # no secret

        def make_engine(send: Send) -> PyEngine:
            def record(datagram: bytes | memoryview, address: TransportAddress) -> None:
                self.sent.setdefault(address, []).append(bytes(datagram))
                send(datagram, address)

            make = BandwidthEstimator if estimates else None
            return PyEngine(record, make_estimator=make, random_bits=bits, express=module)

        super().__init__(make_engine)
        self.join(CAROL, AGREED._replace(dependency_descriptor=0))
        self.publish_camera(("q",))
        self.show_camera()
        self.engine.add_down_track(CAROL, HERS, DownTrack(Kind.VIDEO, "0", VP8_DOWN, 0xCA0, 0xCA1))
        self.engine.route(HERS, CAMERA)
        self.camera = Camera(self, rid="q", number=65_500, described=True, numbered=picture_id is not None)
        self.camera.picture_id = picture_id or 0
        self.camera.timestamp = 0xFFFF_FFFF - 20_000
        self.camera.send(key=True)
        self.held: list[bytes] = []

    def act(self, action: str, value: int) -> None:  # noqa: C901, PLR0912  # a table
        """Do one of ACTIONS; the value is from 0 to 40."""
        camera = self.camera
        match action:
            case "send":
                camera.send(temporal=value % 2, sync=value % 3 == 0)
            case "key":
                camera.send(key=True)
            case "following":
                camera.deliver(camera.following())
            case "lose":
                camera.packet()
            case "hold":
                self.held.append(camera.packet())
            case "release" if self.held:
                camera.deliver(self.held.pop(value % len(self.held)))
            case "repair":
                camera.repeat(sorted(camera.sent)[value % len(camera.sent)])
            case "pad":
                camera.pad()
            case "jump":
                self.held.clear()  # an SRTP sender cannot go so far back
                camera.number += value * 700
                camera.picture_id += value * 300
                camera.send()
            case "nack":
                number = self.bob.of(0xB0B)[-1].number - value
                self.bob.send_rtcp(encode_nack(5, 0xB0B, [number & 0xFFFF, number - 3 & 0xFFFF]), self.now)
            case "feedback":
                fci = encode_transport_feedback(TransportFeedback(value, 9, value, 0, tuple((n, n) for n in range(8))))
                self.bob.send_rtcp(encode_transport_wide(5, 0xB0B, fci), self.now)
            case "want":
                self.engine.want(self.bob.session, 200_000.0 * value)
            case "temporal":
                self.engine.route(PICTURE, CAMERA, 0, value % 2)
            case "unroute":
                self.engine.route(PICTURE, None)
            case "route":
                self.engine.route(PICTURE, CAMERA)
            case "move":
                address = TransportAddress(bytes([198, 51, 100, value]), 7)
                self.peers[address] = self.bob
                self.engine.set_address(self.bob.session, address)
            case "pump":
                self.events += self.pump(0.005 * value)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 40)), max_size=60),
    st.sampled_from((300, 0x7FF0, None)),
    st.booleans(),
)
def test_the_same_datagrams_leave_byte_by_byte_as_from_python_alone(
    actions: list[tuple[str, int]],
    picture_id: int | None,
    estimates: bool,  # noqa: FBT001
) -> None:
    ours, theirs = (Twin(module, picture_id=picture_id, estimates=estimates) for module in (express, None))
    for action, value in actions:
        ours.act(action, value)
        theirs.act(action, value)
        assert ours.sent == theirs.sent
    assert ours.events == theirs.events
    assert ours.pump(1.0) == theirs.pump(1.0)
    assert ours.sent == theirs.sent
    assert ours.engine.counters() == theirs.engine.counters()


def test_packets_in_order_leave_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Twin(express, picture_id=300, estimates=True)
    monkeypatch.setattr("sfu.io.engine.forwarding._pass", None)  # what Python would do
    before = twin.count("packets_out")
    for _ in range(300):
        twin.camera.send()
        twin.now += 0.001
        twin.pump()
    assert twin.count("packets_out") == before + 600


def lane_of(outbox: "Outbox") -> "Lane":
    line = express.Line(outbox, *SrtpSession(KEYS).sender(), HERE, False)  # noqa: FBT003  # there are no words in C
    lane: Lane = express.Lane(line, 7, 96)
    return lane


NUMBER = st.integers(-(2**64), 2**64)
SOME = st.integers(-2, 1500)


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=2000),
    st.tuples(SOME, SOME, SOME, SOME, st.sampled_from((0, 7, 15, 99)), SOME),
    st.tuples(NUMBER, SOME, NUMBER, SOME, st.sampled_from((0, 7, 15, 99)), SOME, SOME, SOME, SOME),
    st.tuples(NUMBER, NUMBER, NUMBER, SOME, SOME),
    SOME,
)
def test_hostile_arguments_are_refused_or_sent_within_bounds(
    packet: bytes,
    places: tuple[int, int, int, int, int, int],
    numbers: tuple[int, int, int, int, int, int, int, int, int],
    rewritten: tuple[int, int, int, int, int],
    temporal: int,
) -> None:
    left: list[bytes] = []
    lane = lane_of(express.Outbox(lambda datagram, _: left.append(datagram)))
    with contextlib.suppress(ValueError, OverflowError):
        lane.arm(None, numbers, rewritten, temporal)
        following = (numbers[0], numbers[1] + 1, *numbers[2:])
        rest, packets, size, failed = express.forward((lane, lane), packet, places, following, None, 1.0)
        assert 12 <= len(packet) <= MAX_RTP
        assert len(rest) + packets + failed == 2
        assert size == sum(map(len, left))
        assert all(len(each) == len(packet) + 16 for each in left)


def test_what_is_no_lane_packet_or_tuple_is_refused() -> None:
    lane = lane_of(express.Outbox(lambda _datagram, _address: None))
    good = ((lane,), bytes(12), PLACES, NUMBERS, None, 1.0)
    assert express.forward(*good) == ([0], 0, 0, 0)  # not armed
    for at, bad in enumerate(([lane], None, [], (1, 2), None, "now")):
        if bad is None and at == 4:
            continue
        with pytest.raises((TypeError, ValueError)):
            express.forward(*good[:at], bad, *good[at + 1 :])
    for arguments in ((None,), ((), ()), (b"x", ()), (b"x", (b"123", 1)), (b"x", (b"1234", -1)), (bytes(1537), HERE)):
        with pytest.raises((TypeError, ValueError)):
            express.Outbox(print)(*arguments)
    for kind in (express.Outbox, express.Line, express.Lane):
        with pytest.raises(TypeError):
            kind()
    unmade = express.Lane.__new__(express.Lane)
    assert express.forward((unmade,), bytes(12), PLACES, NUMBERS, None, 1.0) == ([0], 0, 0, 0)
    assert unmade.recall(0) is None
    with pytest.raises(RuntimeError):
        unmade.arm(None, NUMBERS, (1, 1, 1, 1, 1), 0)
    with pytest.raises(RuntimeError):
        express.Outbox.__new__(express.Outbox)(b"x", HERE)


def test_what_went_out_is_recalled_with_its_stream_and_forgotten_after_a_thousand_packets() -> None:
    lane = lane_of(express.Outbox(lambda _datagram, _address: None))
    first, second = object(), object()
    lane.arm(first, NUMBERS, (70_000, 5, 0, 0, 0), 0)
    express.forward((lane,), bytes(12), PLACES, (2, 2, 3, 0, 0, 0, 9, 0, 0), first, 1.0)
    assert lane.recall(70_001) == (first, 2, (70_001, 7, 0, 0, 9))
    assert lane.recall(70_000) is None  # Python sent it
    assert lane.disarm() == (2, 3, 0, 0, 0, 9, 1.0, 70_001, 1, 0)
    lane.arm(second, NUMBERS, (70_001, 5, 0, 0, 0), 0)
    assert lane.recall(70_001) == (first, 2, (70_001, 7, 0, 0, 9))
    for number in range(2, 2 + express.HISTORY):
        express.forward((lane,), bytes(12), PLACES, (number, number, 3, 0, 0, 0, 9, 0, 0), second, 1.0)
    assert lane.recall(70_001) is None
    assert lane.recall(70_002) == (second, 2, (70_002, 7, 0, 0, 9))


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def sockets(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(3)]
        for sock in made:
            sock.bind((request.param, 0))
            sock.settimeout(10)
        yield made


def address_of(sock: socket.socket) -> TransportAddress:
    name = sock.getsockname()
    return TransportAddress.parse(name[0], name[1])


def outbox_on(sock: socket.socket, send: Callable[[bytes, TransportAddress], None]) -> "Outbox":
    is_v4 = sock.family == socket.AF_INET
    outbox: Outbox = express.Outbox(send, *((sock.fileno(), -1) if is_v4 else (-1, sock.fileno())))
    return outbox


def refuse(datagram: bytes, address: TransportAddress) -> None:
    raise AssertionError(f"{len(datagram)} bytes to {address} were handed back")


def test_datagrams_of_any_size_arrive_whole_and_in_order_at_each_address(sockets: list[socket.socket]) -> None:
    ours, *others = sockets
    outbox = outbox_on(ours, refuse)
    sizes = [1100, 1100, 1100, 90, 90, 1100, 1, 1, 2, 1372, 0, 5]
    for number in range(express.SLOTS):
        for other in others:
            outbox(bytes([number]) * sizes[number % len(sizes)], address_of(other))
    outbox.flush()
    for other in others:
        for number in range(express.SLOTS):
            assert other.recv(2000) == bytes([number]) * sizes[number % len(sizes)]


def test_nothing_leaves_before_the_flush_and_closing_sends_what_is_left(sockets: list[socket.socket]) -> None:
    ours, other, _ = sockets
    handed: list[bytes] = []
    outbox = outbox_on(ours, lambda datagram, _: handed.append(datagram))
    outbox(b"gathered", address_of(other))
    other.setblocking(False)  # noqa: FBT003  # its only argument
    with pytest.raises(BlockingIOError):
        other.recv(100)
    outbox.close()
    assert other.recv(100) == b"gathered"
    outbox(b"late", address_of(other))
    assert handed == [b"late"]


def test_what_must_not_overtake_goes_to_python_in_order_for_each_address(sockets: list[socket.socket]) -> None:
    ours, *others = sockets
    handed: list[tuple[bytes, TransportAddress]] = []
    outbox = outbox_on(ours, lambda datagram, address: handed.append((datagram, address)))
    outbox.is_blocked = True
    for number in range(10):
        for other in others:
            outbox(bytes([number]) * 100, address_of(other))
    outbox.flush()
    for other in others:
        assert [datagram[0] for datagram, address in handed if address == address_of(other)] == list(range(10))


def test_a_datagram_that_the_kernel_refuses_is_handed_back_and_the_others_leave(sockets: list[socket.socket]) -> None:
    ours, other, _ = sockets
    handed: list[bytes] = []
    outbox = outbox_on(ours, lambda datagram, _: handed.append(datagram))
    nowhere = TransportAddress(bytes(4) if ours.family == socket.AF_INET6 else bytes(16), 9)  # of the other family
    for to in (address_of(other), nowhere, address_of(other)._replace(port=0), address_of(other)):
        outbox(b"%d" % to.port, to)
    outbox.flush()
    assert [other.recv(100) for _ in range(2)] == [b"%d" % address_of(other).port] * 2
    assert sorted(handed) == [b"0", b"9"]


def test_an_exception_of_the_one_who_is_handed_a_datagram_comes_out() -> None:
    outbox = express.Outbox(refuse)
    with pytest.raises(AssertionError, match="3 bytes"):
        outbox(b"abc", HERE)
    outbox = express.Outbox(lambda datagram, address: outbox(datagram, address))  # noqa: PLW0108  # not yet made
    with pytest.raises(RuntimeError):
        outbox(b"abc", HERE)
