"""What every forwarding engine must do, packet by packet: a subclass says how the engine is made."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfu.dependency_descriptor import DependencyDescriptor, Structure, Template, decode_descriptor
from sfu.io.engine.srtp import SrtpSession
from sfu.media_engine import (
    Codec,
    DownTrack,
    DownTrackId,
    Extensions,
    KeyFrameWanted,
    Kind,
    LayerGone,
    LayerSeen,
    Loudness,
    MediaEngine,
    MediaEvent,
    PayloadTypes,
    SessionId,
    SrtpKeys,
    SrtpProfile,
    Switched,
    TrackId,
    UpTrack,
)
from sfu.rtcp import (
    Goodbye,
    Nack,
    PictureLossIndication,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    decode_compound,
    encode_full_intra,
    encode_goodbye,
    encode_nack,
    encode_picture_loss,
    encode_receiver_report,
    encode_sender_report,
)
from sfu.rtp import RtpHeader, decode_extensions, decode_header, encode_extensions, encode_packet, is_rtcp
from stun.address import TransportAddress
from tests.support.dependency_descriptors import encode_descriptor

Send = Callable[[bytes | memoryview, TransportAddress], None]

ALICE, BOB = SessionId(1), SessionId(2)  # she publishes, he subscribes
CAMERA, MICROPHONE = TrackId(10), TrackId(11)
PICTURE, SOUND = DownTrackId(20), DownTrackId(21)
GIVEN = Extensions(audio_level=1, transport_cc=2, mid=4, rid=5, repaired_rid=6, dependency_descriptor=7)
AGREED = Extensions(audio_level=3, transport_cc=9, dependency_descriptor=8)
VP8_UP, VP8_DOWN = PayloadTypes(Codec.VP8, 96, 97), PayloadTypes(Codec.VP8, 120, 121)
OPUS_UP, OPUS_DOWN = PayloadTypes(Codec.OPUS, 111), PayloadTypes(Codec.OPUS, 109)
KEY_FRAME = bytes.fromhex("50a9009d012a80026801")  # the clear prefix of RFC 6386 §9.1
DELTA_FRAME = bytes.fromhex("d1a900")
PROFILE = SrtpProfile.AEAD_AES_256_GCM
RIDS = ("q", "h", "f")


class Received:
    """An RTP packet that a peer got, in the clear."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.header: RtpHeader = decode_header(packet)
        self.payload = packet[self.header.payload_offset : self.header.payload_end]
        self.extensions = decode_extensions(packet, self.header)

    @property
    def number(self) -> int:
        return self.header.sequence_number

    @property
    def picture_id(self) -> int:
        return (self.payload[2] & 0x7F) << 8 | self.payload[3]

    @property
    def tl0_pic_idx(self) -> int:
        return self.payload[4]


class Peer:
    """The other end of a session."""

    def __init__(
        self, session: SessionId, engine: MediaEngine, address: TransportAddress, extensions: Extensions
    ) -> None:
        length = PROFILE.key_length + PROFILE.salt_length
        ours, theirs = bytes([session]) * length, bytes([session + 100]) * length
        self.session = session
        self.address = address
        self.engine = engine
        self.srtp = SrtpSession(SrtpKeys(PROFILE, theirs, ours))
        self.rtp: list[Received] = []
        self.rtcp: list[RtcpPacket] = []
        engine.add_session(session, SrtpKeys(PROFILE, ours, theirs), address, extensions)

    def take(self, datagram: bytes) -> None:
        if is_rtcp(datagram):
            self.rtcp += decode_compound(self.srtp.unprotect_rtcp(datagram))
        else:
            self.rtp.append(Received(self.srtp.unprotect_rtp(datagram)))

    def of(self, ssrc: int) -> list[Received]:
        return [packet for packet in self.rtp if packet.header.ssrc == ssrc]

    def send(self, packet: bytes, now: float) -> None:
        self.engine.receive(self.session, memoryview(self.srtp.protect_rtp(packet)), now)

    def send_rtcp(self, packet: bytes, now: float) -> None:
        self.engine.receive(self.session, memoryview(self.srtp.protect_rtcp(packet)), now)


class Stage:
    """An engine between peers, and a clock."""

    def __init__(self, make_engine: Callable[[Send], MediaEngine]) -> None:
        self.peers: dict[TransportAddress, Peer] = {}
        self.engine = make_engine(lambda datagram, address: self.peers[address].take(bytes(datagram)))
        self.now = 100.0
        self.alice = self.join(ALICE, GIVEN)
        self.bob = self.join(BOB, AGREED)

    def join(self, session: SessionId, extensions: Extensions) -> Peer:
        address = TransportAddress(bytes([192, 0, 2, session]), 5000)
        self.peers[address] = peer = Peer(session, self.engine, address, extensions)
        return peer

    def publish_camera(self, rids: tuple[str, ...] = ()) -> None:
        self.engine.add_up_track(ALICE, CAMERA, UpTrack(Kind.VIDEO, "0", (VP8_UP,), rids))

    def publish_microphone(self) -> None:
        self.engine.add_up_track(ALICE, MICROPHONE, UpTrack(Kind.AUDIO, "1", (OPUS_UP,)))

    def show_camera(self, layer: int = 0, max_temporal: int = 7) -> None:
        self.engine.add_down_track(BOB, PICTURE, DownTrack(Kind.VIDEO, "0", VP8_DOWN, 0xB0B, 0xB0C))
        self.engine.route(PICTURE, CAMERA, layer, max_temporal)

    def play_microphone(self) -> None:
        self.engine.add_down_track(BOB, SOUND, DownTrack(Kind.AUDIO, "1", OPUS_DOWN, 0xB1B))
        self.engine.route(SOUND, MICROPHONE)

    def pump(self, seconds: float = 0.0) -> list[MediaEvent]:
        self.now += seconds
        return list(self.engine.pump(self.now))

    def count(self, name: str) -> int:
        return self.engine.counters()[name]


class Camera:
    """A layer as Chromium sends it: VP8 with picture ids or without, a Dependency Descriptor, and retransmissions."""

    def __init__(
        self,
        stage: Stage,
        ssrc: int = 0xA00,
        *,
        rid: str = "",
        number: int = 1000,
        described: bool = False,
        numbered: bool = True,
    ) -> None:
        self.stage = stage
        self.ssrc = ssrc
        self.rid = rid.encode()
        self.number = number
        self.timestamp = 7000 + ssrc
        self.picture_id = 300 + ssrc & 0x7FFF
        self.tl0_pic_idx = 20 + ssrc & 0xFF
        self.frame_number = ssrc & 0xFFFF
        self.described = described
        self.numbered = numbered  # its pictures; those of a layer among others are not
        self.rtx_number = 50
        self.sent: dict[int, bytes] = {}

    def packet(self, *, key: bool = False, temporal: int = 0, sync: bool = True, body: bytes = b"") -> bytes:
        """The next frame, of one packet."""
        self.timestamp = self.timestamp + 3000 & 0xFFFFFFFF
        self.picture_id = self.picture_id + 1 & 0x7FFF
        self.frame_number = self.frame_number + 1 & 0xFFFF
        if temporal == 0:
            self.tl0_pic_idx = self.tl0_pic_idx + 1 & 0xFF
        descriptor = b"\x10"
        if self.numbered:
            descriptor = bytes((0x90, 0xE0)) + (0x8000 | self.picture_id).to_bytes(2)
            descriptor += bytes((self.tl0_pic_idx, temporal << 6 | sync << 5))
        payload = descriptor + (KEY_FRAME if key else DELTA_FRAME) + (body or f"frame {self.number}".encode())
        extensions = [(GIVEN.mid, b"0")]
        if self.rid:
            extensions.append((GIVEN.rid, self.rid))
        if self.described:
            extensions.append((GIVEN.dependency_descriptor, self._description(key=key, temporal=temporal)))
        packet = encode_packet(
            VP8_UP.primary,
            self.number & 0xFFFF,
            self.timestamp,
            self.ssrc,
            payload,
            marker=True,
            extensions=encode_extensions(extensions),
        )
        self.sent[self.number & 0xFFFF] = packet
        self.number += 1
        return packet

    def following(self, temporal: int = 0) -> bytes:
        """Another packet of the frame before."""
        descriptor = b"\0"
        if self.numbered:
            descriptor = bytes((0x80, 0xE0)) + (0x8000 | self.picture_id).to_bytes(2)
            descriptor += bytes((self.tl0_pic_idx, temporal << 6))
        payload = descriptor + f"more {self.number}".encode()
        number = self.number & 0xFFFF
        packet = encode_packet(VP8_UP.primary, number, self.timestamp, self.ssrc, payload)
        self.sent[number] = packet
        self.number += 1
        return packet

    def _description(self, *, key: bool, temporal: int) -> bytes:
        base, higher = Template(0, 0, (2, 2), (2,)), Template(0, 1, (0, 2), (1,))
        structure = Structure(0, 2, (Template(0, 0, (2, 2), ()), base, higher))
        return encode_descriptor(
            DependencyDescriptor(
                starts_frame=True,
                ends_frame=True,
                template_id=0 if key else 1 + temporal,
                frame_number=self.frame_number,
                attached=structure if key else None,
                frame=structure.templates[0 if key else 1 + temporal],
            ),
            structure,
        )

    def send(self, *, key: bool = False, temporal: int = 0, sync: bool = True, body: bytes = b"") -> bytes:
        packet = self.packet(key=key, temporal=temporal, sync=sync, body=body)
        self.deliver(packet)
        return packet

    def deliver(self, packet: bytes) -> None:
        self.stage.alice.send(packet, self.stage.now)

    def repeat(self, number: int) -> None:
        """Send a packet again, as RFC 4588 says."""
        packet = self.sent[number & 0xFFFF]
        header = decode_header(packet)
        extensions = decode_extensions(packet, header)
        if self.rid:
            extensions.pop(GIVEN.rid, b"")  # only the first packet of a frame has it
            extensions[GIVEN.repaired_rid] = self.rid
        self.deliver(
            encode_packet(
                VP8_UP.rtx,
                self.rtx_number & 0xFFFF,
                header.timestamp,
                self.ssrc + 0x1000,
                header.sequence_number.to_bytes(2) + packet[header.payload_offset : header.payload_end],
                marker=header.marker,
                extensions=encode_extensions(extensions.items()),
            )
        )
        self.rtx_number += 1

    def pad(self) -> None:
        self.deliver(encode_packet(VP8_UP.primary, self.number & 0xFFFF, self.timestamp, self.ssrc, b"", padding=100))
        self.number += 1


def bodies(packets: Iterable[Received]) -> list[bytes]:
    """What follows the descriptor of each packet."""
    return [packet.payload[6:] for packet in packets]


def steps(numbers: Iterable[int], bits: int = 16) -> list[int]:
    """How far each number lies behind the first one."""
    values = list(numbers)
    return [value - values[0] & (1 << bits) - 1 for value in values]


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.instance.make_engine)


class EngineContract(ABC):
    """The suite."""

    @staticmethod
    @abstractmethod
    def make_engine(send: Send) -> MediaEngine:
        """An engine that sends by `send`."""

    def test_a_packet_goes_out_byte_by_byte_under_the_numbers_of_the_down_track(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        sent = camera.send(key=True, body=bytes(range(256)) * 4)
        [received] = stage.bob.rtp
        header = received.header
        assert (header.marker, header.payload_type, header.ssrc) == (True, VP8_DOWN.primary, 0xB0B)
        original = sent[decode_header(sent).payload_offset :]
        assert received.payload[:2] == original[:2]
        assert received.payload[5:] == original[5:]
        assert received.extensions == {AGREED.transport_cc: b"\0\0"}
        assert len(received.packet) == 12 + 4 + 4 + len(original)

    def test_sound_goes_out_with_its_level_and_the_first_packet_is_marked(self, stage: Stage) -> None:
        stage.publish_microphone()
        stage.play_microphone()
        for number in range(3):
            block = encode_extensions([(GIVEN.mid, b"1"), (GIVEN.audio_level, bytes([0x80 | 30 + number]))])
            packet = encode_packet(
                OPUS_UP.primary, number, 960 * number, 0xA0D10, b"opus %d" % number, extensions=block
            )
            stage.alice.send(packet, stage.now)
        got = stage.bob.rtp
        assert [packet.payload for packet in got] == [b"opus 0", b"opus 1", b"opus 2"]
        assert [packet.extensions[AGREED.audio_level] for packet in got] == [b"\x9e", b"\x9f", b"\xa0"]
        assert [packet.header.marker for packet in got] == [True, False, False]
        assert steps((packet.header.timestamp for packet in got), 32) == [0, 960, 1920]
        assert stage.pump() == [LayerSeen(MICROPHONE, 0), Switched(SOUND, 0), Loudness(MICROPHONE, -30)]

    def test_nothing_goes_out_before_a_key_frame(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send()
        assert stage.bob.rtp == []
        assert stage.pump() == [LayerSeen(CAMERA, 0), KeyFrameWanted(CAMERA, 0)]
        assert PictureLossIndication(1, camera.ssrc) in stage.alice.rtcp
        camera.send(key=True)
        camera.send()
        assert len(stage.bob.rtp) == 2
        assert stage.pump() == [Switched(PICTURE, 0)]

    @pytest.mark.parametrize("described", [False, True])
    def test_numbers_wrap_on_both_sides(self, stage: Stage, described: bool) -> None:  # noqa: FBT001
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage, number=0xFFF0, described=described)
        camera.timestamp = 0xFFFFFFFF - 5 * 3000
        camera.picture_id, camera.tl0_pic_idx, camera.frame_number = 0x7FF0, 0xF0, 0xFFF0
        for turn in range(0x20000 // 300):
            camera.send(key=turn == 0)
            camera.number += 299  # so that two cycles take a few hundred packets
            camera.picture_id = camera.picture_id + 49 & 0x7FFF
        got = stage.bob.rtp
        assert steps(packet.number for packet in got) == [300 * turn & 0xFFFF for turn in range(len(got))]
        assert steps((packet.header.timestamp for packet in got), 32) == [3000 * turn for turn in range(len(got))]
        assert steps((packet.picture_id for packet in got), 15) == [50 * turn & 0x7FFF for turn in range(len(got))]
        assert steps((packet.tl0_pic_idx for packet in got), 8) == [turn & 0xFF for turn in range(len(got))]
        assert len(got) == 0x20000 // 300

    def test_loss_reordering_and_duplicates_of_the_publisher_are_passed_on_or_mended(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        one, two, three, four = (camera.packet() for _ in range(4))
        for packet in (two, one, four):
            camera.deliver(packet)
        again = decode_header(three)
        camera.repeat(again.sequence_number - 1)  # which was there already
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 2, 1, 4]
        assert bodies(stage.bob.rtp[1:]) == [p[decode_header(p).payload_offset + 6 :] for p in (two, one, four)]
        assert stage.count("dropped_duplicate") == 1

    def test_what_cannot_be_authenticated_is_dropped_and_counted(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        datagram = stage.alice.srtp.protect_rtp(camera.packet(key=True))
        for broken in (datagram[:-1] + bytes([datagram[-1] ^ 1]), datagram[:11], b"", b"\x80\xc9\0\1" + bytes(20)):
            stage.engine.receive(ALICE, memoryview(broken), stage.now)
        stage.engine.receive(ALICE, memoryview(datagram), stage.now)
        stage.engine.receive(ALICE, memoryview(datagram), stage.now)
        assert stage.count("dropped_unauthentic") == 5
        assert len(stage.bob.rtp) == 1

    def test_what_parses_to_nothing_known_is_dropped_and_counted(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        stage.alice.send(encode_packet(96, 1, 2, 3, b"", extensions=b"\xbe\xde\0\1\x1f\0\0\0"), stage.now)
        stage.alice.send(encode_packet(96, 2, 2, 3, b"x", extensions=encode_extensions([(GIVEN.mid, b"9")])), stage.now)
        stage.alice.send(
            encode_packet(96, 3, 2, 3, b"\x80", extensions=encode_extensions([(GIVEN.mid, b"0")])), stage.now
        )
        stage.alice.send(encode_packet(96, 4, 2, 3, bytes(1340)), stage.now)
        stage.alice.send_rtcp(b"\x80\xcd\0\1\0\0\0\3", stage.now)
        assert stage.count("dropped_malformed") == 3
        assert stage.count("dropped_unknown_source") == 1
        assert stage.count("dropped_too_long") == 1
        assert stage.bob.rtp == []

    def test_an_extension_without_an_identifier_is_passed_on_to_nobody(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        stage.engine.set_extensions(ALICE, Extensions(mid=GIVEN.mid))  # of no other one is the identifier known
        camera = Camera(stage)
        payload = b"\x10" + KEY_FRAME + bytes(1288 - 1 - len(KEY_FRAME))  # as long as can be forwarded
        block = b"\xbe\xde\0\5" + bytes((GIVEN.mid << 4, ord("0"), 0x0F, *range(16), 0))
        camera.deliver(encode_packet(VP8_UP.primary, 1, 2, camera.ssrc, payload, extensions=block))
        [received] = stage.bob.rtp
        assert received.extensions == {AGREED.transport_cc: b"\0\0"}
        assert received.payload == payload

    def test_padding_of_the_publisher_leaves_no_hole(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        camera.pad()
        camera.send()
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 1]

    def test_what_the_publisher_lost_is_asked_for_and_goes_out_late(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        lost = camera.packet()
        for _ in range(3):
            camera.send()
        stage.pump()
        number = decode_header(lost).sequence_number
        assert Nack(1, camera.ssrc, (number,)) in stage.alice.rtcp
        camera.repeat(number)
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 2, 3, 4, 1]
        assert bodies(stage.bob.rtp)[-1] == lost[decode_header(lost).payload_offset + 6 :]
        assert stage.count("repaired") == 1

    def test_without_picture_ids_a_packet_goes_out_late_or_with_a_shorter_header_as_any_other(
        self, stage: Stage
    ) -> None:
        stage.publish_camera(("quarter", "half"))
        stage.show_camera(1)
        camera = Camera(stage, rid="half", described=True, numbered=False)
        sent = [camera.send(key=True), camera.packet(), camera.send(), camera.send()]
        camera.repeat(decode_header(sent[1]).sequence_number)
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 2, 3, 1]
        assert sorted(packet.payload for packet in stage.bob.rtp) == sorted(
            packet[decode_header(packet).payload_offset :] for packet in sent
        )

    def test_a_key_frame_whose_first_packet_comes_last_goes_out_whole(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        before = camera.packet()
        first, second, third = camera.packet(key=True), camera.following(), camera.packet()
        for packet in (before, third, second, first):
            camera.deliver(packet)
        camera.send()
        assert [body.split()[-1] for body in bodies(stage.bob.rtp)] == [b"1001", b"1002", b"1003", b"1004"]
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 1, 2, 3]

    def test_nobody_is_asked_for_what_nobody_watches(self, stage: Stage) -> None:
        stage.publish_camera()
        camera = Camera(stage)
        camera.send(key=True)
        camera.packet()
        for _ in range(5):
            camera.send()
        stage.pump(0.05)
        assert not [packet for packet in stage.alice.rtcp if isinstance(packet, Nack)]

    def test_what_is_lost_for_good_is_mended_by_a_key_frame(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        camera.packet()
        camera.send()
        for _ in range(30):
            stage.pump(0.05)
        assert [packet for packet in stage.alice.rtcp if isinstance(packet, PictureLossIndication)] == [
            PictureLossIndication(1, camera.ssrc)
        ]

    def test_what_the_subscriber_lost_is_repeated_byte_by_byte_once_per_round_trip(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        camera.send()
        lost = stage.bob.rtp[1]
        for _ in range(2):
            stage.bob.send_rtcp(encode_nack(5, 0xB0B, [lost.number]), stage.now)
        [repeated] = stage.bob.of(0xB0C)
        assert repeated.payload == lost.number.to_bytes(2) + lost.payload
        assert repeated.header.payload_type == VP8_DOWN.rtx
        assert (repeated.header.timestamp, repeated.header.marker) == (lost.header.timestamp, lost.header.marker)
        stage.now += 0.5
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [lost.number]), stage.now)
        assert steps(packet.number for packet in stage.bob.of(0xB0C)) == [0, 1]

    def test_what_went_out_before_a_switch_is_repeated_as_it_was(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        small, large = Camera(stage, 0xA00, rid="q"), Camera(stage, 0xA01, rid="h")
        small.send(key=True)
        large.send(key=True)
        lost = stage.bob.rtp[0]
        stage.engine.route(PICTURE, CAMERA, 1)
        large.send(key=True)
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [lost.number]), stage.now)
        [repeated] = stage.bob.of(0xB0C)
        assert repeated.payload == lost.number.to_bytes(2) + lost.payload

    def test_what_is_asked_for_while_it_is_missing_upstream_comes_after_the_repair(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        first = camera.send(key=True)
        lost = camera.packet()
        camera.send()
        missing = stage.bob.rtp[0].number + 1 & 0xFFFF
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [missing]), stage.now)
        assert stage.bob.of(0xB0C) == []
        camera.repeat(decode_header(first).sequence_number + 1)
        assert stage.bob.rtp[-1].number == missing
        assert bodies(stage.bob.rtp)[-1] == lost[decode_header(lost).payload_offset + 6 :]

    def test_a_subscriber_who_asks_for_what_is_too_old_or_never_was_gets_nothing(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        Camera(stage).send(key=True)
        stage.now += 10.0
        number = stage.bob.rtp[0].number
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [number, number + 500 & 0xFFFF]), stage.now)
        stage.bob.send_rtcp(encode_nack(5, 0xBAD, [number]), stage.now)
        assert stage.bob.of(0xB0C) == []
        assert stage.count("not_repeated") == 2

    def test_a_repaired_packet_is_repeated_with_its_extensions(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage, described=True)
        camera.send(key=True)
        lost = camera.packet()
        camera.repeat(decode_header(lost).sequence_number)
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [stage.bob.rtp[1].number]), stage.now)
        [repeated] = stage.bob.of(0xB0C)
        value = AGREED.dependency_descriptor
        assert repeated.extensions[value] == stage.bob.rtp[1].extensions[value]

    def test_of_a_track_that_has_ended_nothing_is_repeated(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        Camera(stage).send(key=True)
        stage.engine.remove_up_track(CAMERA)
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [stage.bob.rtp[0].number]), stage.now)
        assert stage.bob.of(0xB0C) == []

    def test_sound_without_retransmissions_is_never_repeated(self, stage: Stage) -> None:
        stage.publish_microphone()
        stage.play_microphone()
        stage.alice.send(encode_packet(OPUS_UP.primary, 1, 2, 0xA0D10, b"opus"), stage.now)
        stage.bob.send_rtcp(encode_nack(5, 0xB1B, [stage.bob.rtp[0].number]), stage.now)
        assert len(stage.bob.rtp) == 1

    def test_a_switch_waits_for_a_key_frame_and_leaves_no_trace_in_the_numbers(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        small, large = Camera(stage, 0xA00, rid="q"), Camera(stage, 0xA01, rid="f")
        small.send(key=True)
        large.send(key=True)
        stage.engine.route(PICTURE, CAMERA, 2)
        small.send()
        large.send()
        assert KeyFrameWanted(CAMERA, 2) in stage.pump(0.033)
        before = stage.bob.rtp[-1]
        late = small.packet()
        large.send(key=True)
        small.deliver(late)
        large.send()
        got = stage.bob.rtp
        assert [body.split()[-1] for body in bodies(got)] == [b"1000", b"1001", b"1002", b"1003"]
        assert steps(packet.number for packet in got) == [0, 1, 2, 3]
        assert steps((packet.picture_id for packet in got), 15) == [0, 1, 2, 3]
        assert steps((packet.tl0_pic_idx for packet in got), 8) == [0, 1, 2, 3]
        assert got[2].header.timestamp - before.header.timestamp & 0xFFFFFFFF == round(0.033 * 90_000)
        assert stage.pump() == [Switched(PICTURE, 2)]

    def test_a_switch_that_follows_another_one_asks_for_its_key_frame_at_once(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        cameras = [Camera(stage, 0xA00 + layer, rid=rid) for layer, rid in enumerate(RIDS)]
        for camera in cameras:
            camera.send()
        stage.pump()
        for layer in (1, 2):
            stage.engine.route(PICTURE, CAMERA, layer)
            assert KeyFrameWanted(CAMERA, layer) in stage.pump(0.01)

    def test_whoever_changes_his_mind_before_the_switch_gets_each_packet_once(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        small, middle = Camera(stage, 0xA00, rid="q"), Camera(stage, 0xA01, rid="h")
        small.send(key=True)
        for layer in (1, 2, 1, 0, 1):
            stage.engine.route(PICTURE, CAMERA, layer)
        middle.send(key=True)
        middle.send()
        assert len(stage.bob.rtp) == 3
        assert stage.count("dropped_unsendable") == 0

    def test_the_clock_of_the_publisher_joins_layers_if_both_have_told_it(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        small, middle = Camera(stage, 0xA00, rid="q"), Camera(stage, 0xA01, rid="h")
        small.send(key=True)
        middle.send(key=True)
        for camera in (small, middle):
            report = SenderReport(camera.ssrc, 9 << 32, camera.timestamp, 1, 1)
            stage.alice.send_rtcp(encode_sender_report(report), stage.now)
        stage.engine.route(PICTURE, CAMERA, 1)
        stage.now += 0.3  # which is not what the publisher says has passed: one picture
        middle.send(key=True)
        assert steps((packet.header.timestamp for packet in stage.bob.rtp), 32) == [0, 3000]

    def test_sound_that_pauses_goes_on_at_its_own_clock_rate(self, stage: Stage) -> None:
        stage.publish_microphone()
        stage.play_microphone()
        for number in range(2):
            stage.alice.send(encode_packet(OPUS_UP.primary, number, 960 * number, 0xA0D10, b"opus"), stage.now)
            stage.engine.route(SOUND, None)
            stage.now += 1.0
            stage.engine.route(SOUND, MICROPHONE)
        assert steps((packet.header.timestamp for packet in stage.bob.rtp), 32) == [0, 48_000]

    def test_the_layer_before_goes_on_until_the_switch(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        small = Camera(stage, 0xA00, rid="q")
        small.send(key=True)
        stage.engine.route(PICTURE, CAMERA, 1)
        small.send()
        stage.engine.route(PICTURE, CAMERA, 0)
        small.send()
        assert len(stage.bob.rtp) == 3

    @pytest.mark.parametrize("described", [False, True])
    def test_a_temporal_layer_that_is_left_out_leaves_no_hole(self, stage: Stage, described: bool) -> None:  # noqa: FBT001
        stage.publish_camera()
        stage.show_camera(max_temporal=0)
        camera = Camera(stage, described=described)
        for turn in range(8):
            camera.send(key=turn == 0, temporal=turn % 2)
        got = stage.bob.rtp
        assert [body.split()[-1] for body in bodies(got)] == [b"1000", b"1002", b"1004", b"1006"]
        assert steps(packet.number for packet in got) == [0, 1, 2, 3]
        assert steps((packet.picture_id for packet in got), 15) == [0, 1, 2, 3]
        assert steps((packet.header.timestamp for packet in got), 32) == [0, 6000, 12000, 18000]

    def test_a_frame_is_never_cut_by_a_change_of_temporal_layers(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        camera.send(temporal=1)
        stage.engine.route(PICTURE, CAMERA, 0, 0)
        camera.deliver(camera.following(temporal=1))
        camera.send(temporal=1)
        camera.deliver(camera.following(temporal=1))
        stage.engine.route(PICTURE, CAMERA, 0, 1)
        camera.deliver(camera.following(temporal=1))
        camera.send()
        got = stage.bob.rtp
        assert [body.split()[-1] for body in bodies(got)] == [b"1000", b"1001", b"1002", b"1006"]
        assert steps(packet.number for packet in got) == [0, 1, 2, 3]
        assert steps((packet.picture_id for packet in got), 15) == [0, 1, 1, 2]

    def test_layers_are_measured_by_temporal_layers(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        camera = Camera(stage, rid="h")
        for turn in range(200):
            camera.send(temporal=turn % 2, body=bytes(900))
            stage.pump(0.02)
        small, middle, large = stage.engine.bitrates(CAMERA, stage.now)
        assert (small, large) == ((), ())
        assert len(middle) == 2
        assert 360_000 < middle[1] < 440_000
        assert middle[0] == pytest.approx(middle[1] / 2, rel=0.1)

    def test_a_higher_temporal_layer_is_joined_where_it_can_be_decoded(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera(max_temporal=0)
        camera = Camera(stage)
        camera.send(key=True)
        camera.send(temporal=1)
        stage.engine.route(PICTURE, CAMERA, 0, 1)
        camera.send(temporal=1, sync=False)
        assert len(stage.bob.rtp) == 1
        camera.send(temporal=1, sync=True)
        camera.send(temporal=1, sync=False)
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 1, 2]

    def test_what_is_left_out_late_is_filled_so_that_nobody_waits_for_it(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera(max_temporal=0)
        camera = Camera(stage)
        camera.send(key=True)
        late = camera.packet(temporal=1)
        camera.send()
        camera.deliver(late)
        got = stage.bob.rtp
        assert steps(packet.number for packet in got) == [0, 2, 1]
        assert got[2].payload == b""

    def test_a_pause_is_silent_and_a_resumption_begins_with_a_key_frame(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.engine.route(PICTURE, None)
        camera.send()
        stage.now += 2.0
        stage.engine.route(PICTURE, CAMERA)
        camera.send()
        camera.send(key=True)
        got = stage.bob.rtp
        assert steps(packet.number for packet in got) == [0, 1]
        assert steps((packet.picture_id for packet in got), 15) == [0, 1]
        assert steps((packet.header.timestamp for packet in got), 32) == [0, 180_000]
        events = stage.pump()
        assert [event for event in events if isinstance(event, Switched)] == [
            Switched(PICTURE, 0),
            Switched(PICTURE, None),
            Switched(PICTURE, 0),
        ]

    def test_a_codec_that_the_subscriber_was_not_told_of_does_not_reach_him(self, stage: Stage) -> None:
        vp9 = PayloadTypes(Codec.VP9, 96, 97)
        stage.engine.add_up_track(ALICE, CAMERA, UpTrack(Kind.VIDEO, "0", (vp9,)))
        stage.show_camera()
        block = encode_extensions([(GIVEN.mid, b"0")])
        key_frame = encode_packet(96, 1, 2, 0xA00, bytes.fromhex("ac 9234 00 ab") + b"VP9", extensions=block)
        stage.alice.send(key_frame, stage.now)
        assert stage.pump() == [LayerSeen(CAMERA, 0)]
        assert stage.bob.rtp == []

    def test_vp9_goes_out_under_the_numbers_of_the_down_track(self, stage: Stage) -> None:
        up, down = PayloadTypes(Codec.VP9, 98, 99), PayloadTypes(Codec.VP9, 122)
        stage.engine.add_up_track(ALICE, CAMERA, UpTrack(Kind.VIDEO, "0", (up,)))
        stage.engine.add_down_track(BOB, PICTURE, DownTrack(Kind.VIDEO, "0", down, 0xB0B))
        stage.engine.route(PICTURE, CAMERA, 0, 0)
        for number, descriptor in enumerate(("ac 9234 00 01", "ec 9235 30 01", "ec 9236 00 02")):
            payload = bytes.fromhex(descriptor) + b"VP9"
            packet = encode_packet(98, number, 3000 * number, 0xA00, payload, extensions=encode_extensions([(4, b"0")]))
            stage.alice.send(packet, stage.now)
        first, second = stage.bob.rtp
        assert second.payload[:1] == b"\xec" and second.payload[5:] == b"VP9"
        assert steps([first.number, second.number]) == [0, 1]
        numbers = [int.from_bytes(packet.payload[1:3]) & 0x7FFF for packet in (first, second)]
        assert steps(numbers, 15) == [0, 1]
        assert steps([first.payload[4], second.payload[4]], 8) == [0, 1]

    def test_a_publisher_who_begins_anew_under_another_ssrc_is_one_stream_to_subscribers(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        Camera(stage, 0xA00).send(key=True)
        again = Camera(stage, 0xA05, number=9)
        again.send()
        assert len(stage.bob.rtp) == 1
        again.send(key=True)
        assert steps(packet.number for packet in stage.bob.rtp) == [0, 1]

    def test_a_layer_is_seen_and_gone(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        camera = Camera(stage, rid="h")
        camera.send(key=True)
        assert stage.pump() == [LayerSeen(CAMERA, 1)]
        assert stage.pump(1.0) == []
        assert stage.pump(2.0) == [LayerGone(CAMERA, 1)]
        camera.send()
        stage.alice.send_rtcp(encode_goodbye(Goodbye((camera.ssrc, 77))), stage.now)
        assert stage.pump() == [LayerSeen(CAMERA, 1), LayerGone(CAMERA, 1)]

    def test_the_dependency_descriptor_goes_out_with_frames_numbered_on(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.show_camera()
        small = Camera(stage, 0xA00, rid="q", described=True)
        large = Camera(stage, 0xA01, rid="h", described=True)
        small.send(key=True)
        small.send(temporal=1)
        stage.engine.route(PICTURE, CAMERA, 1)
        large.send(key=True)
        large.send(temporal=1)
        values = [packet.extensions[AGREED.dependency_descriptor] for packet in stage.bob.rtp]
        numbers = [decode_descriptor(value, None).frame_number for value in values]
        assert steps(numbers) == [0, 1, 2, 3]
        assert [decode_descriptor(value, None).begins_key_frame for value in values] == [True, False, True, False]

    def test_a_crowd_that_wants_key_frames_causes_two_requests_a_second_at_most(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        for turn in range(100):
            request = encode_picture_loss(5, 0xB0B) if turn % 2 else encode_full_intra(5, [(0xB0B, turn)])
            stage.bob.send_rtcp(request, stage.now)
            stage.engine.request_key_frame(CAMERA, 0, stage.now)
            stage.pump(0.05)
        asked = [packet for packet in stage.alice.rtcp if isinstance(packet, PictureLossIndication)]
        assert 4 <= len(asked) <= 10
        assert stage.count("key_frame_requests_out") == len(asked)

    def test_one_receiver_alone_causes_one_request_a_second(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        Camera(stage).send(key=True)
        for _ in range(60):
            stage.bob.send_rtcp(encode_picture_loss(5, 0xB0B), stage.now)
            stage.pump(0.0625)
        assert stage.count("key_frame_requests_out") == 4

    def test_a_request_for_a_stream_that_is_not_his_reaches_nobody(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        Camera(stage).send(key=True)
        stage.bob.send_rtcp(encode_picture_loss(5, 0xA00), stage.now)
        assert stage.alice.rtcp == []

    def test_a_publisher_is_told_how_the_layers_arrive(self, stage: Stage) -> None:
        stage.publish_camera()
        camera = Camera(stage)
        for turn in range(10):
            packet = camera.packet(key=turn == 0)
            if turn not in {3, 4}:
                camera.deliver(packet)
        stage.alice.send_rtcp(
            encode_sender_report(SenderReport(camera.ssrc, 0xAABBCCDD_11223344, 0, 10, 100)), stage.now
        )
        stage.pump(0.25)
        reports = [packet for packet in stage.alice.rtcp if isinstance(packet, ReceiverReport)]
        [block] = reports[0].reports
        assert (block.ssrc, block.fraction_lost, block.cumulative_lost) == (camera.ssrc, 2 * 256 // 10, 2)
        assert block.highest_sequence_number == 1009
        assert (block.last_sender_report, block.delay) == (0xCCDD1122, 65536 // 4)
        for _ in range(5):
            stage.pump(0.25)
        assert len([packet for packet in stage.alice.rtcp if isinstance(packet, ReceiverReport)]) == 2

    def test_a_subscriber_is_told_the_clock_of_the_publisher_in_the_timestamps_of_the_down_track(
        self, stage: Stage
    ) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.alice.send_rtcp(
            encode_sender_report(SenderReport(camera.ssrc, 7 << 32, camera.timestamp + 900, 1, 1)), stage.now
        )
        stage.pump(0.5)
        [report] = [packet for packet in stage.bob.rtcp if isinstance(packet, SenderReport)]
        [received] = stage.bob.rtp
        assert report.ssrc == 0xB0B
        assert report.ntp_timestamp == (7 << 32) + (1 << 31)
        assert report.rtp_timestamp - received.header.timestamp & 0xFFFFFFFF == 900 + 45_000
        assert (report.packet_count, report.octet_count) == (1, len(received.payload))
        stage.pump(0.5)
        assert len([packet for packet in stage.bob.rtcp if isinstance(packet, SenderReport)]) == 1

    def test_how_often_a_packet_is_repeated_follows_the_round_trip_of_the_subscriber(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.alice.send_rtcp(encode_sender_report(SenderReport(camera.ssrc, 7 << 32, 0, 1, 1)), stage.now)
        for _ in range(20):
            stage.pump(1.0)
            report = [packet for packet in stage.bob.rtcp if isinstance(packet, SenderReport)][-1]
            name = report.ntp_timestamp >> 16 & 0xFFFFFFFF
            block = ReportBlock(0xB0B, 0, 0, 0, 0, name, 65536 // 10)
            stage.bob.send_rtcp(encode_receiver_report(ReceiverReport(5, (block,))), stage.now + 0.5)
        camera.send()
        lost = stage.bob.rtp[-1].number
        for seconds in (0.0, 0.3, 0.45):
            stage.bob.send_rtcp(encode_nack(5, 0xB0B, [lost]), stage.now + seconds)
        assert len(stage.bob.of(0xB0C)) == 2  # the round trip is 0.4 s

    def test_a_stream_that_ends_says_goodbye(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.engine.remove_down_track(PICTURE)
        camera.send()
        assert Goodbye((0xB0B, 0xB0C)) in stage.bob.rtcp
        assert len(stage.bob.rtp) == 1
        with pytest.raises(KeyError):
            stage.engine.route(PICTURE, CAMERA)

    def test_a_track_that_ends_leaves_its_subscribers_silent(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.pump()
        stage.engine.remove_up_track(CAMERA)
        camera.send()
        assert len(stage.bob.rtp) == 1
        assert stage.pump(1.0) == [Switched(PICTURE, None)]
        with pytest.raises(KeyError):
            stage.engine.route(PICTURE, CAMERA)

    def test_a_session_that_ends_takes_all_along(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.publish_microphone()
        stage.show_camera()
        Camera(stage).send(key=True)
        stage.engine.remove_session(ALICE)
        assert Switched(PICTURE, None) in stage.pump()
        stage.engine.remove_session(BOB)
        assert stage.pump(5.0) == []
        for session in (ALICE, BOB):
            with pytest.raises(KeyError):
                stage.engine.receive(session, memoryview(b""), stage.now)

    def test_a_screen_that_is_shared_twenty_times_is_seen_each_time(self, stage: Stage) -> None:
        stage.engine.add_down_track(BOB, PICTURE, DownTrack(Kind.VIDEO, "0", VP8_DOWN, 0xB0B, 0xB0C))
        for turn in range(20):
            track = TrackId(100 + turn)
            stage.engine.add_up_track(ALICE, track, UpTrack(Kind.VIDEO, "0", (VP8_UP,)))
            stage.engine.route(PICTURE, track)
            Camera(stage, 0xA00 + turn).send(key=True)
            stage.engine.remove_up_track(track)
        assert steps(packet.number for packet in stage.bob.rtp) == list(range(20))

    def test_datagrams_go_to_the_address_that_was_nominated_last(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        elsewhere = TransportAddress(b"\xc6\x33\x64\1", 7)
        stage.peers[elsewhere] = stage.peers.pop(stage.bob.address)
        stage.engine.set_address(BOB, elsewhere)
        Camera(stage).send(key=True)
        assert len(stage.bob.rtp) == 1

    def test_nothing_leaves_for_a_session_whose_address_is_gone_until_there_is_another_one(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.engine.set_address(BOB, None)
        camera.send()
        camera.send()
        assert len(stage.bob.rtp) == 1
        stage.engine.set_address(BOB, stage.bob.address)
        camera.send()
        assert len(stage.bob.rtp) == 2

    def test_nothing_leaves_for_a_session_without_transport_wide_numbers_whose_address_is_gone(
        self, stage: Stage
    ) -> None:
        carol = stage.join(SessionId(3), Extensions(mid=GIVEN.mid))
        stage.publish_camera()
        stage.engine.add_down_track(carol.session, PICTURE, DownTrack(Kind.VIDEO, "0", VP8_DOWN, 0xCA0, 0xCA1))
        stage.engine.route(PICTURE, CAMERA, 0)
        camera = Camera(stage)
        camera.send(key=True)
        camera.send()
        stage.engine.set_address(carol.session, None)
        camera.send()
        assert len(carol.rtp) == 2

    def test_extensions_that_a_later_negotiation_adds_are_understood_from_then_on(self, stage: Stage) -> None:
        carol = stage.join(SessionId(3), Extensions(mid=GIVEN.mid))
        stage.engine.add_up_track(carol.session, MICROPHONE, UpTrack(Kind.AUDIO, "1", (OPUS_UP,)))
        stage.engine.add_up_track(carol.session, CAMERA, UpTrack(Kind.VIDEO, "0", (VP8_UP,)))
        stage.play_microphone()
        stage.show_camera()
        camera = Camera(stage, described=True)
        block = encode_extensions([(GIVEN.mid, b"1"), (GIVEN.audio_level, bytes([0x80 | 30]))])
        levels, described = [], []
        for number in range(2):
            carol.send(
                encode_packet(OPUS_UP.primary, number, 960 * number, 0xCA, b"sound", extensions=block), stage.now
            )
            carol.send(camera.packet(key=True), stage.now)
            levels.append([event for event in stage.pump() if isinstance(event, Loudness)])
            described.append(AGREED.dependency_descriptor in stage.bob.of(0xB0B)[-1].extensions)
            stage.engine.set_extensions(carol.session, GIVEN)
        assert levels == [[], [Loudness(MICROPHONE, -30)]]
        assert described == [False, True]
        assert [AGREED.audio_level in packet.extensions for packet in stage.bob.of(0xB1B)] == [False, True]
        stage.bob.send_rtcp(encode_nack(1, 0xB0B, [stage.bob.of(0xB0B)[-1].number]), stage.now)
        assert AGREED.dependency_descriptor in stage.bob.of(0xB0C)[-1].extensions

    def test_what_exists_is_not_added_again(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.show_camera()
        with pytest.raises(ValueError, match="exists"):
            stage.publish_camera()
        with pytest.raises(ValueError, match="exists"):
            stage.join(ALICE, GIVEN)
        for ssrcs in ((0xB0C, 0xB0D), (0xB0D, 0xB0B), (1, 2)):
            with pytest.raises(ValueError, match="exists"):
                stage.engine.add_down_track(BOB, SOUND, DownTrack(Kind.VIDEO, "0", VP8_DOWN, *ssrcs))

    def test_sound_is_not_fed_from_a_picture_nor_from_a_layer_that_was_not_announced(self, stage: Stage) -> None:
        stage.publish_camera(RIDS)
        stage.publish_microphone()
        stage.play_microphone()
        with pytest.raises(ValueError, match="carry"):
            stage.engine.route(SOUND, CAMERA)
        for layer in (-1, 1):
            with pytest.raises(KeyError):
                stage.engine.route(SOUND, MICROPHONE, layer)

    def test_outgoing_packets_are_numbered_per_transport(self, stage: Stage) -> None:
        stage.publish_camera()
        stage.publish_microphone()
        stage.show_camera()
        stage.play_microphone()
        camera = Camera(stage)
        camera.send(key=True)
        stage.alice.send(encode_packet(OPUS_UP.primary, 1, 2, 0xA0D10, b"opus"), stage.now)
        camera.send()
        stage.bob.send_rtcp(encode_nack(5, 0xB0B, [stage.bob.rtp[0].number]), stage.now)
        values = [packet.extensions[AGREED.transport_cc] for packet in stage.bob.rtp]
        assert [int.from_bytes(value) for value in values] == [0, 1, 2, 3]

    def test_counters_have_a_fixed_set_of_names(self, stage: Stage) -> None:
        before = set(stage.engine.counters())
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage)
        camera.send(key=True)
        stage.alice.send(encode_packet(1, 2, 3, 4, b""), stage.now)
        stage.pump(1.0)
        assert set(stage.engine.counters()) == before
        assert stage.count("packets_in") == 2
        assert stage.count("packets_out") == 1

    @settings(max_examples=40)
    @given(st.data())
    def test_of_any_trace_subscribers_get_what_came_byte_by_byte_in_its_place(self, data: st.DataObject) -> None:
        stage = Stage(self.make_engine)
        stage.publish_camera()
        stage.show_camera()
        camera = Camera(stage, number=data.draw(st.integers(0, 0xFFFF)))
        camera.timestamp = data.draw(st.integers(0, 0xFFFFFFFF))
        first = camera.send(key=True)
        held: list[bytes] = []
        arrived = {decode_header(first).sequence_number: first}
        for action in data.draw(st.lists(st.sampled_from("sslhrdp"), max_size=60)):
            if action == "s":
                packet = camera.send()
                arrived[decode_header(packet).sequence_number] = packet
            elif action == "l":
                camera.packet()
            elif action == "h":
                held.append(camera.packet())
            elif action == "r" and held:
                packet = held.pop(data.draw(st.integers(0, len(held) - 1)))
                camera.deliver(packet)
                arrived[decode_header(packet).sequence_number] = packet
            elif action == "d":
                number = data.draw(st.sampled_from(sorted(camera.sent)))
                if number != decode_header(first).sequence_number:
                    camera.repeat(number)
                    arrived[number] = camera.sent[number]
            elif action == "p":
                stage.pump(0.01)
        base = decode_header(first)
        got = {}
        for received in stage.bob.of(0xB0B):
            number = received.number - stage.bob.rtp[0].number + base.sequence_number & 0xFFFF
            assert number not in got
            got[number] = received
        assert set(got) == set(arrived)
        for number, received in got.items():
            original = arrived[number]
            header = decode_header(original)
            assert received.payload[5:] == original[header.payload_offset + 5 :]
            step = header.timestamp - base.timestamp & 0xFFFFFFFF
            assert received.header.timestamp - stage.bob.rtp[0].header.timestamp & 0xFFFFFFFF == step
