"""One PeerConnection to an engine: its keys, where it is reached, and what leaves towards it."""

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sfu.io.engine.congestion import Arrivals, PathEstimator
from sfu.io.engine.srtp import MAX_RTP, SrtpError, SrtpSession
from sfu.layers import LayerTable
from sfu.media_engine import Extensions, SessionId
from sfu.rewriter import Rewritten
from sfu.rtp import HEADER_LENGTH, encode_extensions, encode_packet
from stun.address import TransportAddress

if TYPE_CHECKING:
    from sfu.io.express import Line

Send = Callable[[bytes | memoryview, TransportAddress], None]  # a memoryview is good until the call returns

AUTH_TAG: Final = 16  # bytes that SRTP adds, at most

_pack_numbers: Final = struct.Struct("!BHII").pack_into
_pack_short: Final = struct.Struct("!H").pack_into

COUNTERS: Final = (
    "packets_in",
    "bytes_in",
    "packets_out",
    "bytes_out",
    "rtcp_in",
    "rtcp_out",
    "retransmissions_out",
    "probes_out",
    "repaired",
    "nacked_out",
    "key_frame_requests_out",
    "dropped_unauthentic",
    "dropped_malformed",
    "dropped_unknown_source",
    "dropped_duplicate",
    "dropped_too_long",
    "dropped_late",
    "dropped_padding",
    "dropped_feedback",
    "dropped_unsendable",
    "not_repeated",
)


class Draft:
    """A packet as it goes out, but for its numbers; where these lie, in bytes from its start: 0 for what it lacks."""

    __slots__ = (
        "frame_number_at",
        "octets",
        "packet",
        "picture_at",
        "picture_bits",
        "size",
        "tl0_pic_idx_at",
        "transport_at",
    )

    def __init__(self, packet: bytes, octets: int) -> None:
        self.packet = packet
        self.size = len(packet)
        self.octets = octets  # of its payload
        self.transport_at = 0  # transport-wide sequence number
        self.frame_number_at = 0  # of the Dependency Descriptor
        self.picture_at = 0
        self.picture_bits = 0  # 7 or 15; 0 without a picture id
        self.tl0_pic_idx_at = 0

    def places(self) -> tuple[int, int, int, int, int, int]:
        """Where its numbers lie, as `sfu.io.express.forward` takes them."""
        return (
            self.octets,
            self.transport_at,
            self.frame_number_at,
            self.picture_at,
            self.picture_bits,
            self.tl0_pic_idx_at,
        )


def own_elements(agreed: Extensions, now: float) -> list[tuple[int, bytes]]:
    """The extensions that are ours: room for the transport-wide number, which is always the first, and the time."""
    elements = []
    if agreed.transport_cc:
        elements.append((agreed.transport_cc, bytes(2)))
    if agreed.absolute_send_time:  # 6.18 fixed point
        elements.append((agreed.absolute_send_time, (int(now * (1 << 18)) & 0xFFFFFF).to_bytes(3)))
    return elements


class Session:
    """What an engine knows of one PeerConnection. All sessions of an engine count together."""

    __slots__ = (
        "_address",
        "_estimator",
        "_send",
        "arrivals",
        "checked_at",
        "counters",
        "extensions",
        "id",
        "line",
        "number",
        "reported_at",
        "srtp",
        "table",
        "told",
    )

    def __init__(
        self,
        session: SessionId,
        srtp: SrtpSession,
        address: TransportAddress,
        extensions: Extensions,
        send: Send,
        counters: dict[str, int],
        *,
        arrivals: Arrivals | None = None,
        estimator: PathEstimator | None = None,
    ) -> None:
        self.id = session
        self.srtp = srtp
        self.line: Line | None = None  # where packets leave in C; without it all leave here
        self.extensions = extensions
        self.counters = counters
        self.table = LayerTable()
        self.arrivals = arrivals
        self.number = 0  # transport-wide, of the next packet, if nobody estimates
        self.checked_at = float("-inf")
        self.reported_at = float("-inf")
        self.told = estimator.bits_per_second if estimator is not None else 0.0
        self._address: TransportAddress | None = address
        self._estimator = estimator
        self._send = send

    def aim(self, address: TransportAddress | None) -> None:
        """Send to another address from now on; None: to nobody."""
        self._address = address
        if self.line is not None:
            self.line.aim(address)

    @property
    def estimator(self) -> PathEstimator | None:
        """What estimates the path, when it has been told of all that left."""
        estimator, line = self._estimator, self.line
        if estimator is not None and line is not None and line.departed:
            estimator.send_many(*line.take_departures())
        return estimator

    def check_line(self) -> None:
        """Leave packets to the line only for as long as nothing is probed; to be called when a probe may have begun."""
        if self.line is not None and self._estimator is not None and not self._estimator.is_plain:
            self.line.is_open = False  # the next packet that Python sends opens it

    def send_rtp(
        self,
        numbers: tuple[int, int, int, int],
        payload: bytes,
        elements: Sequence[tuple[int, bytes]],
        now: float,
        *,
        marker: bool = False,
        padding: int = 0,
        probe: bool = False,
    ) -> None:
        """Send an RTP packet, with the time of sending and a transport-wide number if the session agreed on them.

        Args:
            numbers: payload type, sequence number, timestamp and SSRC.
            payload: what it carries.
            elements: its other header extensions.
            now: monotonic time, in seconds.
            marker: the marker bit.
            padding: bytes of padding.
            probe: whether it is sent for the sake of the estimate.
        """
        agreed = self.extensions
        block = encode_extensions((*own_elements(agreed, now), *elements))
        if agreed.transport_cc:
            at = 5 if block[0] == 0xBE else 6  # behind profile, length and the header of the first element
            size = HEADER_LENGTH + len(block) + len(payload) + padding
            block = block[:at] + self._next_number(size, now, probe=probe).to_bytes(2) + block[at + 2 :]
        packet = encode_packet(*numbers, payload, marker=marker, extensions=block, padding=padding)
        size = len(packet)
        if size > MAX_RTP:
            self.counters["dropped_unsendable"] += 1
            return
        self.srtp.buffer.view[:size] = packet
        self._protect_and_send(size)

    def send_draft(self, draft: Draft, second: int, ssrc: int, numbers: Rewritten, now: float) -> None:
        """Send a packet that was drafted for all subscribers that agreed on the same extensions.

        Args:
            draft: all but the numbers.
            second: the second byte, marker and payload type.
            ssrc: 32 bits.
            numbers: under which it goes out.
            now: monotonic time, in seconds.
        """
        sequence_number, timestamp, picture_id, tl0_pic_idx, frame_number = numbers
        view, size = self.srtp.buffer.view, draft.size
        view[:size] = draft.packet
        _pack_numbers(view, 1, second, sequence_number & 0xFFFF, timestamp, ssrc)
        if draft.transport_at:
            _pack_short(view, draft.transport_at, self._next_number(size, now, probe=False))
        if draft.picture_bits == 15:
            _pack_short(view, draft.picture_at, 0x8000 | picture_id & 0x7FFF)
        elif draft.picture_bits:
            view[draft.picture_at] = picture_id & 0x7F
        if draft.tl0_pic_idx_at:
            view[draft.tl0_pic_idx_at] = tl0_pic_idx
        if draft.frame_number_at:
            _pack_short(view, draft.frame_number_at, frame_number)
        self._protect_and_send(size)

    def _protect_and_send(self, size: int) -> None:
        counters = self.counters
        try:
            datagram = self.srtp.protect_in_place(size)
        except SrtpError:
            counters["dropped_unsendable"] += 1
            return
        if self._address is None:
            counters["dropped_unsendable"] += 1
            return
        counters["packets_out"] += 1
        counters["bytes_out"] += len(datagram)
        self._send(datagram, self._address)

    def _next_number(self, size: int, now: float, *, probe: bool) -> int:
        """The transport-wide number of a packet of so many bytes in the clear."""
        estimator, line = self.estimator, self.line
        if estimator is not None:
            number = estimator.send(size + AUTH_TAG, now, probe=probe)
        else:
            number = self.number if line is None else line.number
        following = number + 1 & 0xFFFF
        if line is None:
            self.number = following
        else:
            line.number = following
            line.is_open = estimator is None or estimator.is_plain
        return number

    def send_rtcp(self, packet: bytes) -> None:
        """Send a compound or reduced-size RTCP packet."""
        try:
            datagram = self.srtp.protect_rtcp(packet)
        except SrtpError:
            self.counters["dropped_unsendable"] += 1
            return
        if self._address is None:
            self.counters["dropped_unsendable"] += 1
            return
        self.counters["rtcp_out"] += 1
        self._send(datagram, self._address)
