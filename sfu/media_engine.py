"""What the conference core asks of a forwarding engine, and what an engine tells it.

The core decides who gets what; an engine moves the packets. Above this line there is no packet object. An engine runs
on one thread and is given the time (`now`, seconds of a monotonic clock) with every call that depends on it.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from typing import NamedTuple, NewType, Protocol

from stun.address import TransportAddress

SessionId = NewType("SessionId", int)
TrackId = NewType("TrackId", int)
DownTrackId = NewType("DownTrackId", int)


class Kind(StrEnum):
    """What a track carries."""

    AUDIO = "audio"
    VIDEO = "video"


class Codec(Enum):
    """What may be forwarded: whatever else encrypts whole frames cannot be packetised (docs/sfu.md)."""

    OPUS = "opus"
    VP8 = "VP8"
    VP9 = "VP9"


class SrtpProfile(Enum):
    """SRTP protection profiles (RFC 5764 §4.1.2, RFC 7714 §14.2): OpenSSL's name, key and salt length in bytes."""

    AEAD_AES_256_GCM = ("SRTP_AEAD_AES_256_GCM", 32, 12)
    AEAD_AES_128_GCM = ("SRTP_AEAD_AES_128_GCM", 16, 12)
    AES128_CM_SHA1_80 = ("SRTP_AES128_CM_SHA1_80", 16, 14)

    @property
    def openssl_name(self) -> str:
        """What OpenSSL calls it."""
        return self.value[0]

    @property
    def key_length(self) -> int:
        """Bytes of a master key."""
        return self.value[1]

    @property
    def salt_length(self) -> int:
        """Bytes of a master salt."""
        return self.value[2]


class SrtpKeys(NamedTuple):
    """Master key and salt, one after the other, of each direction, as `SrtpProfile` says how long."""

    profile: SrtpProfile
    inbound: bytes
    outbound: bytes


class Extensions(NamedTuple):
    """The identifiers that a session agreed on for RTP header extensions (RFC 8285); 0 for one that it did not."""

    audio_level: int = 0  # urn:ietf:params:rtp-hdrext:ssrc-audio-level, RFC 6464
    transport_cc: int = 0  # draft-holmer-rmcat-transport-wide-cc-extensions-01
    absolute_send_time: int = 0
    mid: int = 0  # urn:ietf:params:rtp-hdrext:sdes:mid, RFC 8843
    rid: int = 0  # urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id, RFC 8852
    repaired_rid: int = 0
    dependency_descriptor: int = 0
    video_orientation: int = 0  # urn:3gpp:video-orientation


class PayloadTypes(NamedTuple):
    """Of a codec in one session: its packets, and their retransmissions (RFC 4588); 0 where there are none."""

    codec: Codec
    primary: int
    rtx: int = 0


class UpTrack(NamedTuple):
    """What a publisher announces for one m-line."""

    kind: Kind
    mid: str
    payloads: tuple[PayloadTypes, ...]
    rids: tuple[str, ...] = ()  # simulcast layers from the smallest to the largest; empty without simulcast
    ssrcs: tuple[tuple[int, ...], ...] = ()  # per layer, if the SDP tells: its SSRC, then that of its retransmissions


class DownTrack(NamedTuple):
    """How a subscriber was told that a track will come."""

    kind: Kind
    mid: str
    payload: PayloadTypes
    ssrc: int
    rtx_ssrc: int = 0


class KeyFrameWanted(NamedTuple):
    """A subscriber cannot go on without a key frame of a layer: the engine has asked its publisher for one.

    It is told once per throttle interval. The core need not do anything.
    """

    track: TrackId
    layer: int


class LayerSeen(NamedTuple):
    """The first packet of a layer arrived, or the first one after a pause."""

    track: TrackId
    layer: int


class LayerGone(NamedTuple):
    """Nothing arrived of a layer for a while: its sender has stopped it."""

    track: TrackId
    layer: int


class Switched(NamedTuple):
    """A subscriber now gets another layer of its track; None: nothing."""

    down_track: DownTrackId
    layer: int | None


class Bandwidth(NamedTuple):
    """What the path to a subscriber carries by estimate, bits per second."""

    session: SessionId
    bits_per_second: float


class Loudness(NamedTuple):
    """How loud the audio of a track was in the last interval: -127 to 0 dBov (RFC 6464), as its sender says."""

    track: TrackId
    decibels: int


MediaEvent = KeyFrameWanted | LayerSeen | LayerGone | Switched | Bandwidth | Loudness


class MediaEngine(Protocol):
    """Forwards RTP between sessions. Unknown identifiers are errors of the caller (KeyError)."""

    def add_session(
        self, session: SessionId, keys: SrtpKeys, address: TransportAddress, extensions: Extensions
    ) -> None:
        """Begin a session: one PeerConnection whose DTLS handshake is done."""

    def set_address(self, session: SessionId, address: TransportAddress | None) -> None:
        """Send to another address from now on, which the session has nominated; None: to nobody, until there is one."""

    def set_extensions(self, session: SessionId, extensions: Extensions) -> None:
        """Know more header extensions of a session: a later negotiation adds some, and changes and takes away none."""

    def remove_session(self, session: SessionId) -> None:
        """End a session with all that it publishes and gets."""

    def add_up_track(self, session: SessionId, track: TrackId, announced: UpTrack) -> None:
        """Expect what a session publishes; its layers are learnt from MID and RID, or from the SSRCs of the SDP.

        Raises:
            ValueError: the track exists, or the session has too many.
        """

    def remove_up_track(self, track: TrackId) -> None:
        """Stop expecting it; down tracks that were fed by it fall silent."""

    def add_down_track(self, session: SessionId, down_track: DownTrackId, announced: DownTrack) -> None:
        """Make an outgoing stream; nothing is sent before it is routed.

        Raises:
            ValueError: it exists, or its SSRC is in use in this session, or the session has too many.
        """

    def remove_down_track(self, down_track: DownTrackId) -> None:
        """Say goodbye to an outgoing stream."""

    def route(self, down_track: DownTrackId, track: TrackId | None, layer: int = 0, max_temporal: int = 7) -> None:
        """Feed a down track from a layer; None: from nothing, at once.

        A change of video takes effect at the next key frame of that layer, which the engine asks for; until then the
        layer before goes on. A higher temporal layer is joined where it can be decoded, a lower one at the next frame.

        Raises:
            KeyError: also for a layer that was not announced.
            ValueError: the track is of another kind.
        """

    def receive(self, session: SessionId, datagram: bytes | memoryview, now: float) -> None:
        """Take one SRTP or SRTCP datagram of a session; what cannot be authenticated is counted and dropped."""

    def bitrates(self, track: TrackId, now: float) -> tuple[tuple[float, ...], ...]:
        """What each layer of a track carries: bits per second up to each temporal layer; nothing if it is not sent."""

    def want(self, session: SessionId, bits_per_second: float) -> None:
        """Say how much there would be use for towards a session: for less than that it probes its path, never more."""

    def request_key_frame(self, track: TrackId, layer: int, now: float) -> None:
        """Ask the publisher of a layer for a key frame (PLI), at most once per throttle interval."""

    def pump(self, now: float) -> Sequence[MediaEvent]:
        """Do what is due (reports, feedback, retransmission requests, pacing) and tell what happened since."""

    def counters(self) -> Mapping[str, int]:
        """Packets, bytes and drops by reason, for metrics: a fixed set of names."""
