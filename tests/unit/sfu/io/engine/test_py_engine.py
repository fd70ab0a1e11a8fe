from collections import deque
from collections.abc import Sequence

import pytest

from sfu.io.engine.forwarding import MAX_FORWARDED, MAX_PADDING, MAX_PROBE_PADDING
from sfu.io.engine.py_engine import CHECK_INTERVAL, MAX_DOWN_TRACKS, MAX_PROBES, PyEngine
from sfu.media_engine import Bandwidth, DownTrack, DownTrackId, Kind, SessionId
from sfu.rtcp import TransportWideFeedback, encode_transport_wide
from sfu.rtp import encode_extensions, encode_packet
from tests.support.engine_contract import (
    AGREED,
    BOB,
    CAMERA,
    GIVEN,
    MICROPHONE,
    OPUS_DOWN,
    OPUS_UP,
    VP8_DOWN,
    Camera,
    EngineContract,
    Send,
    Stage,
    stage,
)

__all__ = ["stage"]  # a fixture of the suite


class TestPyEngine(EngineContract):
    @staticmethod
    def make_engine(send: Send) -> PyEngine:
        return PyEngine(send)


class Notes:
    """Takes down what arrives, and gives the feedback that it is told to."""

    def __init__(self) -> None:
        self.arrived: list[tuple[int, float]] = []
        self.due: deque[bytes] = deque()

    def receive(self, sequence: int, now: float) -> None:
        self.arrived.append((sequence, now))

    def poll_feedback(self, now: float) -> bytes | None:  # noqa: ARG002
        return self.due.popleft() if self.due else None


class Estimate:
    """Estimates what it is told to, and numbers packets from 500 on."""

    def __init__(self) -> None:
        self.bits_per_second = 300_000.0
        self.wanted = 0.0
        self.sent: list[tuple[int, bool]] = []
        self.feedback: list[bytes] = []
        self.probes: deque[int] = deque()
        self.timeouts = 0

    @property
    def is_plain(self) -> bool:
        return not self.probes

    def want(self, bits_per_second: float) -> None:
        self.wanted = bits_per_second

    def send(self, size: int, now: float, *, probe: bool = False) -> int:  # noqa: ARG002
        self.sent.append((size, probe))
        return 499 + len(self.sent)

    def send_many(self, sizes: Sequence[int], instants: Sequence[float]) -> None:
        self.sent += [(size, False) for size, _ in zip(sizes, instants, strict=True)]

    def poll_probe(self, now: float) -> int | None:  # noqa: ARG002
        return self.probes.popleft() if self.probes else None

    def receive_feedback(self, fci: bytes, now: float) -> None:  # noqa: ARG002
        if fci == b"bad!":
            raise ValueError("it does not parse")
        self.feedback.append(fci)

    def handle_timeout(self, now: float) -> None:  # noqa: ARG002
        self.timeouts += 1


class Measured(Stage):
    """A stage whose engine measures: the first of each list belongs to Alice, the second to Bob."""

    def __init__(self) -> None:
        self.notes: list[Notes] = []
        self.estimates: list[Estimate] = []
        super().__init__(
            lambda send: PyEngine(send, make_arrivals=self._make_notes, make_estimator=self._make_estimate)
        )

    def _make_notes(self) -> Notes:
        self.notes.append(Notes())
        return self.notes[-1]

    def _make_estimate(self) -> Estimate:
        self.estimates.append(Estimate())
        return self.estimates[-1]


@pytest.fixture
def measured() -> Measured:
    return Measured()


def test_every_packet_of_a_publisher_is_noted_whatever_it_carries(measured: Measured) -> None:
    for number in range(3):
        block = encode_extensions([(GIVEN.transport_cc, (700 + number).to_bytes(2))])
        measured.alice.send(encode_packet(96, number, 2, 3, b"of nobody", extensions=block), measured.now + number)
    assert measured.notes[0].arrived == [(700, 100.0), (701, 101.0), (702, 102.0)]


def test_feedback_that_is_due_goes_to_the_publisher(measured: Measured) -> None:
    measured.notes[0].due += [b"one.", b"and another"]
    measured.pump()
    assert measured.alice.rtcp == [TransportWideFeedback(1, 0, b"one."), TransportWideFeedback(1, 0, b"and another")]
    assert measured.bob.rtcp == []


def test_outgoing_packets_carry_the_numbers_of_the_estimator_and_it_knows_their_size(measured: Measured) -> None:
    measured.publish_camera()
    measured.show_camera()
    camera = Camera(measured)
    for turn in range(3):
        camera.send(key=turn == 0)
    values = [packet.extensions[AGREED.transport_cc] for packet in measured.bob.rtp]
    assert [int.from_bytes(value) for value in values] == [500, 501, 502]
    assert measured.estimates[1].sent == [(len(packet.packet) + 16, False) for packet in measured.bob.rtp]


def test_feedback_of_a_subscriber_reaches_the_estimator_and_a_new_estimate_is_told_once(measured: Measured) -> None:
    estimate = measured.estimates[1]
    measured.bob.send_rtcp(encode_transport_wide(5, 0, b"some feedback"), measured.now)
    measured.bob.send_rtcp(encode_transport_wide(5, 0, b"bad!"), measured.now)
    assert estimate.feedback == [b"some feedback"]
    assert measured.count("dropped_feedback") == 1
    assert measured.pump() == []
    estimate.bits_per_second = 500_000.0
    assert measured.pump() == [Bandwidth(BOB, 500_000.0)]
    assert measured.pump() == []


def test_the_estimator_is_told_of_the_time_now_and_then_and_not_with_every_look(measured: Measured) -> None:
    estimate = measured.estimates[1]
    measured.pump()
    measured.pump(CHECK_INTERVAL / 2)
    assert estimate.timeouts == 1
    measured.pump(CHECK_INTERVAL / 2)
    assert estimate.timeouts == 2


def test_what_there_is_use_for_reaches_the_estimator(measured: Measured) -> None:
    measured.engine.want(BOB, 1e6)
    assert measured.estimates[1].wanted == 1e6


def _show_one_frame(measured: Measured, size: int) -> Estimate:
    measured.publish_camera()
    measured.show_camera()
    Camera(measured).send(key=True, body=bytes(size))
    return measured.estimates[1]


def test_before_anything_went_out_there_is_nothing_to_probe_with(measured: Measured) -> None:
    measured.publish_camera()
    measured.show_camera()
    measured.estimates[1].probes += [100]
    measured.pump()
    assert measured.bob.rtp == []


def test_a_probe_repeats_what_went_out_last_and_fills_up_with_padding(measured: Measured) -> None:
    estimate = _show_one_frame(measured, 800)
    estimate.probes += [1200]
    measured.pump()
    original = measured.bob.rtp[0]
    probes = measured.bob.of(0xB0C)
    assert probes[0].payload == original.number.to_bytes(2) + original.payload
    assert all(probe.payload == b"" for probe in probes[1:])
    assert 1200 <= sum(len(probe.packet) for probe in probes) <= 1240
    assert all(probe.header.payload_type == VP8_DOWN.rtx for probe in probes)
    assert [is_probe for _, is_probe in estimate.sent] == [False] + [True] * len(probes)


def test_a_probe_that_is_smaller_than_what_went_out_is_padding(measured: Measured) -> None:
    estimate = _show_one_frame(measured, 800)
    estimate.probes += [100]
    measured.pump()
    [probe] = measured.bob.of(0xB0C)
    assert probe.payload == b""
    assert 100 <= len(probe.packet) <= 108


def test_the_longest_packet_is_repeated_without_more_padding_than_it_has_room_for(measured: Measured) -> None:
    estimate = _show_one_frame(measured, MAX_FORWARDED - 40)
    estimate.probes += [1600]
    measured.pump()
    assert len(measured.bob.of(0xB0C)[0].payload) > MAX_FORWARDED - 40
    assert measured.count("dropped_unsendable") == 0


def test_probes_have_a_bound_in_bytes_and_in_number(measured: Measured) -> None:
    estimate = _show_one_frame(measured, 10)
    estimate.probes += [100_000]
    measured.pump()
    probes = measured.bob.of(0xB0C)
    assert len(probes) == 1 + MAX_PROBE_PADDING
    assert all(len(probe.packet) - probe.header.payload_end == MAX_PADDING for probe in probes)
    estimate.probes += [50] * (MAX_PROBES + 5)
    measured.pump()
    assert len(estimate.probes) == 5


def test_a_session_without_transport_wide_numbers_is_neither_noted_nor_estimated(measured: Measured) -> None:
    measured.join(SessionId(3), GIVEN._replace(transport_cc=0))
    assert len(measured.notes) == len(measured.estimates) == 2


def test_a_session_has_a_bounded_number_of_down_tracks() -> None:
    stage = Stage(PyEngine)
    for number in range(MAX_DOWN_TRACKS):
        down = DownTrack(Kind.VIDEO, str(number), VP8_DOWN, 100 + 2 * number, 101 + 2 * number)
        stage.engine.add_down_track(BOB, DownTrackId(number), down)
    with pytest.raises(ValueError, match="more than"):
        stage.engine.add_down_track(BOB, DownTrackId(999), DownTrack(Kind.AUDIO, "a", OPUS_DOWN, 7))


def test_absolute_send_time_is_the_time_of_sending() -> None:
    stage = Stage(PyEngine)
    extensions = AGREED._replace(absolute_send_time=5)
    carol = stage.join(SessionId(3), extensions)
    stage.publish_microphone()
    stage.engine.add_down_track(carol.session, DownTrackId(30), DownTrack(Kind.AUDIO, "1", OPUS_DOWN, 0xC0C))
    stage.engine.route(DownTrackId(30), MICROPHONE)
    stage.now = 3.5
    stage.alice.send(encode_packet(OPUS_UP.primary, 1, 2, 0xA0D10, b"opus"), stage.now)
    [received] = carol.rtp
    assert received.extensions[5] == (3 * (1 << 18) + (1 << 17)).to_bytes(3)
    assert received.extensions[AGREED.transport_cc] == b"\0\0"


def test_each_subscriber_of_one_packet_gets_its_own_extensions_and_numbers() -> None:
    """A draft serves all that agreed on the same; between two of them comes one that agreed on others."""
    stage = Stage(PyEngine)
    others = AGREED._replace(transport_cc=2, dependency_descriptor=6, absolute_send_time=5)
    peers = [stage.join(SessionId(3 + number), (AGREED, others, AGREED)[number]) for number in range(3)]
    stage.publish_camera()
    for number, peer in enumerate(peers):
        track = DownTrack(Kind.VIDEO, "0", VP8_DOWN, 0xD00 + 2 * number, 0xD01 + 2 * number)
        stage.engine.add_down_track(peer.session, DownTrackId(30 + number), track)
        stage.engine.route(DownTrackId(30 + number), CAMERA)
    camera = Camera(stage, described=True)
    for turn in range(2):
        camera.send(key=turn == 0, body=b"body")
    for number, peer in enumerate(peers):
        assert [packet.header.ssrc for packet in peer.rtp] == [0xD00 + 2 * number] * 2
        assert [packet.payload[-4:] for packet in peer.rtp] == [b"body"] * 2
        first, second = (packet.header.sequence_number for packet in peer.rtp)
        assert second - first & 0xFFFF == 1
        wanted = {6, 5, 2} if number == 1 else {AGREED.dependency_descriptor, AGREED.transport_cc}
        assert [set(packet.extensions) for packet in peer.rtp] == [wanted] * 2
        transport = 2 if number == 1 else AGREED.transport_cc
        assert [packet.extensions[transport] for packet in peer.rtp] == [b"\0\0", b"\0\1"]
        descriptor = 6 if number == 1 else AGREED.dependency_descriptor
        frames = [int.from_bytes(packet.extensions[descriptor][1:3]) for packet in peer.rtp]
        assert frames[1] - frames[0] & 0xFFFF == 1
    assert len({peer.rtp[0].picture_id for peer in peers}) > 1
