"""RTCP: reports (RFC 3550 §6), feedback (RFC 4585 §6, RFC 5104 §4.3.1), compound and reduced-size (RFC 5506)."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from sfu.errors import ParseFault, RtcpParseError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
TRANSPORT_FEEDBACK: Final = 205  # RTPFB
PAYLOAD_FEEDBACK: Final = 206  # PSFB

GENERIC_NACK: Final = 1  # RTPFB (RFC 4585 §6.2.1)
TRANSPORT_WIDE: Final = 15  # RTPFB (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1)
PICTURE_LOSS: Final = 1  # PSFB (RFC 4585 §6.3.1)
FULL_INTRA: Final = 4  # PSFB (RFC 5104 §4.3.1)

MAX_PACKETS: Final = 32  # of one compound packet
MAX_REPORTS: Final = 31  # of one packet: five bits count them, and chunks and sources of BYE
MAX_NACK_ENTRIES: Final = 256  # of one packet, each for up to 17 sequence numbers
MAX_FIR_ENTRIES: Final = 32  # of one packet
MAX_NAME: Final = 255  # bytes of a CNAME or a reason

_CNAME: Final = 1
_HEADER: Final = struct.Struct("!BBH")
_SENDER_INFO: Final = struct.Struct("!IQIII")
_REPORT: Final = struct.Struct("!IIIIII")
_SSRC: Final = struct.Struct("!I")
_SOURCES: Final = struct.Struct("!II")
_NACK_ENTRY: Final = struct.Struct("!HH")
_FIR_ENTRY: Final = struct.Struct("!IB3x")


class ReportBlock(NamedTuple):
    """How one source was received (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int  # of 256, since the last report
    cumulative_lost: int  # signed, 24 bits: duplicates make it negative
    highest_sequence_number: int  # extended, 32 bits
    jitter: int  # in units of the timestamp
    last_sender_report: int  # the middle 32 bits of its NTP timestamp; 0 for none
    delay: int  # since then, in 1/65536 seconds


class SenderReport(NamedTuple):
    """What a source has sent, and which instant one of its timestamps is (RFC 3550 §6.4.1)."""

    ssrc: int
    ntp_timestamp: int  # 64 bits: seconds since 1900 in 1/2^32 seconds
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()


class ReceiverReport(NamedTuple):
    """Reception reports of one that sends nothing itself (RFC 3550 §6.4.2)."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


class SourceDescription(NamedTuple):
    """The canonical names of sources (RFC 3550 §6.5); other items are not read."""

    names: tuple[tuple[int, bytes], ...]  # SSRC and CNAME


class Goodbye(NamedTuple):
    """These sources have ended (RFC 3550 §6.6)."""

    ssrcs: tuple[int, ...]
    reason: bytes = b""


class Nack(NamedTuple):
    """A generic NACK: these packets are missing (RFC 4585 §6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    sequence_numbers: tuple[int, ...]


class PictureLossIndication(NamedTuple):
    """A receiver needs a key frame (RFC 4585 §6.3.1)."""

    sender_ssrc: int
    media_ssrc: int


class FullIntraRequest(NamedTuple):
    """A receiver needs key frames (RFC 5104 §4.3.1): of these sources, each with the number of the request."""

    sender_ssrc: int
    entries: tuple[tuple[int, int], ...]


class TransportWideFeedback(NamedTuple):
    """Transport-wide congestion control feedback: its feedback control information as it came, without padding."""

    sender_ssrc: int
    media_ssrc: int
    fci: bytes


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | Nack
    | PictureLossIndication
    | FullIntraRequest
    | TransportWideFeedback
)


def decode_compound(datagram: bytes) -> list[RtcpPacket]:
    """Read a compound or reduced-size RTCP packet. Packets of unknown types, REMB among them, are skipped.

    Raises:
        RtcpParseError: any packet in it is malformed, or there are too many of them; nothing of it is believed then.
    """
    size = len(datagram)
    if size < 4:
        raise RtcpParseError(ParseFault.TRUNCATED, f"{size} bytes")
    found: list[RtcpPacket] = []
    at = packets = 0
    while at < size:
        packets += 1
        if packets > MAX_PACKETS:
            raise RtcpParseError(ParseFault.TOO_MANY, "packets")
        if size - at < 4:
            raise RtcpParseError(ParseFault.TRUNCATED, f"{size - at} bytes behind the last packet")
        first, packet_type, words = _HEADER.unpack_from(datagram, at)
        if first & 0xC0 != 0x80:
            raise RtcpParseError(ParseFault.BAD_VERSION, f"{first >> 6}")
        end = at + 4 + (words << 2)
        if end > size:
            raise RtcpParseError(ParseFault.BAD_LENGTH, f"{end - at} bytes, of which {size - at} are there")
        body_end = end
        if first & 0x20:
            if end != size:  # RFC 3550 §6.4.1: only the last packet is padded
                raise RtcpParseError(ParseFault.BAD_PADDING, "within a compound packet")
            padding = datagram[-1]
            body_end -= padding
            # RFC 3550 wants a multiple of four; transport-wide feedback of browsers is padded by one to three bytes.
            if padding == 0 or body_end < at + 4:
                raise RtcpParseError(ParseFault.BAD_PADDING, f"{padding} bytes")
        decode = _DECODERS.get(packet_type)
        if decode is not None:
            packet = decode(first & 0x1F, datagram[at + 4 : body_end])
            if packet is not None:
                found.append(packet)
        at = end
    return found


def _need(body: bytes, size: int, what: str) -> None:
    if len(body) < size:
        raise RtcpParseError(ParseFault.TRUNCATED, f"{len(body)} bytes of {what}")


def _decode_sender_report(count: int, body: bytes) -> SenderReport:
    _need(body, _SENDER_INFO.size, "sender report")
    ssrc, ntp_timestamp, rtp_timestamp, packets, octets = _SENDER_INFO.unpack_from(body)
    reports = _decode_reports(count, body, _SENDER_INFO.size)
    return SenderReport(ssrc, ntp_timestamp, rtp_timestamp, packets, octets, reports)


def _decode_receiver_report(count: int, body: bytes) -> ReceiverReport:
    _need(body, 4, "receiver report")
    return ReceiverReport(int.from_bytes(body[:4]), _decode_reports(count, body, 4))


def _decode_reports(count: int, body: bytes, offset: int) -> tuple[ReportBlock, ...]:
    # Bytes behind the blocks are profile-specific extensions (RFC 3550 §6.4.3), which nobody sends.
    _need(body, offset + count * _REPORT.size, "report blocks")
    reports = []
    for at in range(offset, offset + count * _REPORT.size, _REPORT.size):
        ssrc, lost, highest, jitter, last, delay = _REPORT.unpack_from(body, at)
        cumulative = lost & 0xFFFFFF
        if cumulative >= 1 << 23:
            cumulative -= 1 << 24
        reports.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, last, delay))
    return tuple(reports)


def _decode_source_description(count: int, body: bytes) -> SourceDescription:
    names = []
    at, size = 0, len(body)
    for _ in range(count):
        _need(body, at + 5, "chunk")
        ssrc = int.from_bytes(body[at : at + 4])
        begin = at
        at += 4
        while at < size and body[at]:
            if at + 2 > size or at + 2 + body[at + 1] > size:
                raise RtcpParseError(ParseFault.BAD_LENGTH, f"item {body[at]} ends outside its packet")
            if body[at] == _CNAME:
                names.append((ssrc, body[at + 2 : at + 2 + body[at + 1]]))
            at += 2 + body[at + 1]
        if at >= size:
            raise RtcpParseError(ParseFault.TRUNCATED, "a chunk without its end")
        at = begin + (at - begin >> 2 << 2) + 4  # at least one zero, then up to the next word
    if len(names) > MAX_REPORTS:
        raise RtcpParseError(ParseFault.TOO_MANY, "names")
    return SourceDescription(tuple(names))


def _decode_goodbye(count: int, body: bytes) -> Goodbye:
    _need(body, 4 * count, "sources")
    ssrcs = struct.unpack_from(f"!{count}I", body)
    reason = b""
    if len(body) > 4 * count:
        length = body[4 * count]
        _need(body, 4 * count + 1 + length, "reason")
        reason = body[4 * count + 1 : 4 * count + 1 + length]
    return Goodbye(ssrcs, reason)


def _decode_transport_feedback(kind: int, body: bytes) -> Nack | TransportWideFeedback | None:
    _need(body, 8, "feedback")
    sender_ssrc, media_ssrc = _SOURCES.unpack_from(body)
    if kind == TRANSPORT_WIDE:
        return TransportWideFeedback(sender_ssrc, media_ssrc, body[8:])
    if kind != GENERIC_NACK:
        return None
    size = len(body) - 8
    if size % 4:
        raise RtcpParseError(ParseFault.BAD_LENGTH, f"{size} bytes of NACK")
    if size > MAX_NACK_ENTRIES * 4:
        raise RtcpParseError(ParseFault.TOO_MANY, "NACK entries")
    missing = []
    for first, mask in _NACK_ENTRY.iter_unpack(body[8:]):
        missing.append(first)
        missing += [first + 1 + bit & 0xFFFF for bit in range(16) if mask >> bit & 1]
    return Nack(sender_ssrc, media_ssrc, tuple(missing))


def _decode_payload_feedback(kind: int, body: bytes) -> PictureLossIndication | FullIntraRequest | None:
    _need(body, 8, "feedback")
    sender_ssrc, media_ssrc = _SOURCES.unpack_from(body)
    if kind == PICTURE_LOSS:
        return PictureLossIndication(sender_ssrc, media_ssrc)
    if kind != FULL_INTRA:
        return None
    size = len(body) - 8
    if size % 8:
        raise RtcpParseError(ParseFault.BAD_LENGTH, f"{size} bytes of FIR")
    if size > MAX_FIR_ENTRIES * 8:
        raise RtcpParseError(ParseFault.TOO_MANY, "FIR entries")
    return FullIntraRequest(sender_ssrc, tuple(_FIR_ENTRY.iter_unpack(body[8:])))


_DECODERS: Final[dict[int, Callable[[int, bytes], RtcpPacket | None]]] = {
    SENDER_REPORT: _decode_sender_report,
    RECEIVER_REPORT: _decode_receiver_report,
    SOURCE_DESCRIPTION: _decode_source_description,
    GOODBYE: _decode_goodbye,
    TRANSPORT_FEEDBACK: _decode_transport_feedback,
    PAYLOAD_FEEDBACK: _decode_payload_feedback,
}


def encode_sender_report(report: SenderReport) -> bytes:
    """Write a sender report.

    Raises:
        ValueError: it has more than MAX_REPORTS report blocks.
    """
    body = _SENDER_INFO.pack(*report[:5]) + _encode_reports(report.reports)
    return _packet(SENDER_REPORT, len(report.reports), body)


def encode_receiver_report(report: ReceiverReport) -> bytes:
    """Write a receiver report.

    Raises:
        ValueError: it has more than MAX_REPORTS report blocks.
    """
    return _packet(RECEIVER_REPORT, len(report.reports), _SSRC.pack(report.ssrc) + _encode_reports(report.reports))


def encode_source_description(description: SourceDescription) -> bytes:
    """Write an SDES packet with one CNAME per chunk.

    Raises:
        ValueError: there are more than MAX_REPORTS chunks, or a name is longer than MAX_NAME bytes.
    """
    chunks = []
    for ssrc, name in description.names:
        chunk = _SSRC.pack(ssrc) + bytes((_CNAME, len(name))) + name
        chunks.append(chunk + bytes(4 - len(chunk) % 4))
    return _packet(SOURCE_DESCRIPTION, len(description.names), b"".join(chunks))


def encode_goodbye(goodbye: Goodbye) -> bytes:
    """Write a BYE.

    Raises:
        ValueError: there are more than MAX_REPORTS sources, or the reason is longer than MAX_NAME bytes.
    """
    body = b"".join(map(_SSRC.pack, goodbye.ssrcs))
    if goodbye.reason:
        body += bytes((len(goodbye.reason),)) + goodbye.reason
        body += bytes(-len(body) % 4)
    return _packet(GOODBYE, len(goodbye.ssrcs), body)


def encode_nack(sender_ssrc: int, media_ssrc: int, sequence_numbers: Sequence[int]) -> bytes:
    """Write a generic NACK for sequence numbers in the order in which they were sent (RFC 4585 §6.2.1).

    Raises:
        ValueError: they need more than MAX_NACK_ENTRIES entries.
    """
    entries: list[tuple[int, int]] = []
    for number in sequence_numbers:
        if entries:
            first, mask = entries[-1]
            distance = number - first & 0xFFFF
            if 1 <= distance <= 16:
                entries[-1] = first, mask | 1 << distance - 1
                continue
        entries.append((number, 0))
    if len(entries) > MAX_NACK_ENTRIES:
        raise ValueError(f"{len(entries)} NACK entries")
    body = b"".join(_NACK_ENTRY.pack(*entry) for entry in entries)
    return _packet(TRANSPORT_FEEDBACK, GENERIC_NACK, _SOURCES.pack(sender_ssrc, media_ssrc) + body)


def encode_picture_loss(sender_ssrc: int, media_ssrc: int) -> bytes:
    """Write a picture loss indication."""
    return _packet(PAYLOAD_FEEDBACK, PICTURE_LOSS, _SOURCES.pack(sender_ssrc, media_ssrc))


def encode_full_intra(sender_ssrc: int, entries: Iterable[tuple[int, int]]) -> bytes:
    """Write a full intra request: SSRCs and the number of the request, 8 bits, higher by one for a new one."""
    body = b"".join(_FIR_ENTRY.pack(*entry) for entry in entries)
    return _packet(PAYLOAD_FEEDBACK, FULL_INTRA, _SOURCES.pack(sender_ssrc, 0) + body)


def encode_transport_wide(sender_ssrc: int, media_ssrc: int, fci: bytes) -> bytes:
    """Write transport-wide feedback around its feedback control information, padded to whole words as browsers do."""
    padding = -len(fci) % 4
    tail = bytes(padding - 1) + bytes((padding,)) if padding else b""
    packet = _packet(TRANSPORT_FEEDBACK, TRANSPORT_WIDE, _SOURCES.pack(sender_ssrc, media_ssrc) + fci + tail)
    return bytes((packet[0] | 0x20,)) + packet[1:] if padding else packet


def _encode_reports(reports: Iterable[ReportBlock]) -> bytes:
    return b"".join(
        _REPORT.pack(ssrc, fraction << 24 | cumulative & 0xFFFFFF, highest, jitter, last, delay)
        for ssrc, fraction, cumulative, highest, jitter, last, delay in reports
    )


def _packet(packet_type: int, count: int, body: bytes) -> bytes:
    if count > MAX_REPORTS:
        raise ValueError(f"{count} of a packet of type {packet_type}")
    return _HEADER.pack(0x80 | count, packet_type, len(body) >> 2) + body
