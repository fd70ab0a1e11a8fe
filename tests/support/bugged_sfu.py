"""The service as somebody would run it who has taken the machine over: the media server's RTP goes into a file.

The product has no such hook; this one is put around its classes, in a process of a test:

    python -m tests.support.bugged_sfu FILE serve --config …

It also takes every path to carry what the settings begin with. An estimate says more of the CPUs, which all the
browsers of a test share with the server, than of what is tested. FILE may be `/dev/null`.
"""

import os
import struct
import sys
from io import RawIOBase
from pathlib import Path
from typing import Final

from config import cli, native
from sfu.errors import RtpParseError
from sfu.io.engine.py_engine import PyEngine
from sfu.io.engine.srtp import SrtpSession
from sfu.io.peer_connections import Send
from sfu.io.service import SfuService
from sfu.media_engine import MediaEngine
from sfu.rtp import RtpHeader, decode_header
from sfu.transport_feedback import ArrivalLog
from sfu.vp8 import decode_descriptor

_LENGTH: Final = struct.Struct("!H")


def main() -> None:
    """Run the command line of the product with an ear at the media server."""
    os.environ[native.PURE_VARIABLE] = "1"  # compiled code has no place for an ear
    with Path(sys.argv.pop(1)).open("ab", buffering=0) as tap:
        _bug(tap)
        cli.main()


def _bug(tap: RawIOBase) -> None:
    unprotect_rtp = SrtpSession.unprotect_rtp

    def overheard(self: SrtpSession, datagram: bytes | memoryview) -> bytes:
        packet = unprotect_rtp(self, datagram)
        tap.write(_LENGTH.pack(len(packet)) + packet)
        return packet

    def make_engine(self: SfuService, send: Send) -> MediaEngine:  # noqa: ARG001  # a method
        return PyEngine(send, make_arrivals=ArrivalLog)

    SrtpSession.unprotect_rtp = overheard  # type: ignore[method-assign]
    SfuService._make_engine = make_engine  # type: ignore[method-assign]


def captured_frames(tap: Path, ssrc: int, kind: str, offset: int = 0) -> list[bytes]:
    """Put the frames of one stream together again, in their order; those that miss a packet are left out.

    Args:
        tap: what was written.
        ssrc: of the stream.
        kind: `audio`, where each packet is a frame, or `video`, which is VP8.
        offset: where to begin, in bytes; the end of a packet.
    """
    packets: dict[int, tuple[RtpHeader, bytes]] = {}
    for packet in _packets(tap.read_bytes()[offset:]):
        header = decode_header(packet)
        if header.ssrc != ssrc or header.payload_offset == header.payload_end:
            continue
        # Sequence numbers go round; a test does not take long enough for that to be in doubt.
        first = next(iter(packets), header.sequence_number)
        number = first + (header.sequence_number - first + 0x8000) % 0x10000 - 0x8000
        packets[number] = (header, packet)
    if kind == "audio":
        return [packet[header.payload_offset : header.payload_end] for _, (header, packet) in sorted(packets.items())]
    frames: list[bytes] = []
    parts: list[bytes] = []
    expected = None
    for number, (header, packet) in sorted(packets.items()):
        try:
            descriptor = decode_descriptor(packet, header.payload_offset, header.payload_end)
        except RtpParseError:
            continue  # a probe
        if descriptor.starts_frame:
            parts = []
        elif number != expected:
            parts, expected = [], None
            continue
        parts.append(packet[header.payload_offset + descriptor.length : header.payload_end])
        expected = number + 1
        if header.marker:
            frames.append(b"".join(parts))
    return frames


def _packets(written: bytes) -> list[bytes]:
    packets, at = [], 0
    while at + _LENGTH.size <= len(written):
        (size,) = _LENGTH.unpack_from(written, at)
        packets.append(written[at + _LENGTH.size : at + _LENGTH.size + size])
        at += _LENGTH.size + size
    return packets


if __name__ == "__main__":
    main()
