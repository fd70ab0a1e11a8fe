"""One PeerConnection to an engine: its keys, where it is reached, and what leaves towards it."""

from collections.abc import Callable, Sequence
from typing import Final

from sfu.io.engine.congestion import Arrivals, PathEstimator
from sfu.io.engine.srtp import SrtpError, SrtpSession
from sfu.layers import LayerTable
from sfu.media_engine import Extensions, SessionId
from sfu.rtp import HEADER_LENGTH, encode_extensions, encode_packet
from stun.address import TransportAddress

Send = Callable[[bytes, TransportAddress], None]

AUTH_TAG: Final = 16  # bytes that SRTP adds, at most

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


class Session:
    """What an engine knows of one PeerConnection. All sessions of an engine count together."""

    __slots__ = (
        "_send",
        "address",
        "arrivals",
        "counters",
        "estimator",
        "extensions",
        "id",
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
        self.address = address
        self.extensions = extensions
        self.counters = counters
        self.table = LayerTable()
        self.arrivals = arrivals
        self.estimator = estimator
        self.number = 0  # transport-wide, of the next packet, if nobody estimates
        self.reported_at = float("-inf")
        self.told = estimator.bits_per_second if estimator is not None else 0.0
        self._send = send

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
        added = []
        if agreed.transport_cc:
            added.append((agreed.transport_cc, bytes(2)))
        if agreed.absolute_send_time:  # 6.18 fixed point
            added.append((agreed.absolute_send_time, (int(now * (1 << 18)) & 0xFFFFFF).to_bytes(3)))
        block = encode_extensions((*added, *elements))
        if agreed.transport_cc:
            at = 5 if block[0] == 0xBE else 6  # behind profile, length and the header of the first element
            size = HEADER_LENGTH + len(block) + len(payload) + padding + AUTH_TAG
            block = block[:at] + self._next_number(size, now, probe=probe).to_bytes(2) + block[at + 2 :]
        packet = encode_packet(*numbers, payload, marker=marker, extensions=block, padding=padding)
        counters = self.counters
        try:
            datagram = self.srtp.protect_rtp(packet)
        except SrtpError:
            counters["dropped_unsendable"] += 1
            return
        counters["packets_out"] += 1
        counters["bytes_out"] += len(datagram)
        self._send(datagram, self.address)

    def _next_number(self, size: int, now: float, *, probe: bool) -> int:
        if self.estimator is not None:
            return self.estimator.send(size, now, probe=probe)
        number = self.number
        self.number = number + 1 & 0xFFFF
        return number

    def send_rtcp(self, packet: bytes) -> None:
        """Send a compound or reduced-size RTCP packet."""
        try:
            datagram = self.srtp.protect_rtcp(packet)
        except SrtpError:
            self.counters["dropped_unsendable"] += 1
            return
        self.counters["rtcp_out"] += 1
        self._send(datagram, self.address)
