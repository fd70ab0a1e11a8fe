"""UDP datagrams as Ethernet frames: written as a network card would see them, and read without any indulgence."""

import struct
from typing import Final, NamedTuple

from stun.address import TransportAddress

ETHERNET_BYTES: Final = 14
UDP: Final = 17
_TO_AND_FROM: Final = bytes(6) + bytes.fromhex("020000000001")  # the first is the loopback interface's own address
_ETHERTYPES: Final = {4: b"\x08\x00", 16: b"\x86\xdd"}  # by the length of an IP address


class BadFrame(ValueError):
    """Something in a frame does not fit together."""


class Datagram(NamedTuple):
    """A UDP datagram, with those fields of its IP header that a relay has to mind."""

    source: TransportAddress
    destination: TransportAddress
    payload: bytes
    hops: int = 64
    traffic_class: int = 0  # DSCP and ECN
    dont_fragment: bool = False  # IPv4


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(datagram: Datagram) -> bytes:
    """What the checksum of UDP covers besides the datagram (RFC 768, RFC 8200 §8.1)."""
    length = 8 + len(datagram.payload)
    return datagram.source.ip + datagram.destination.ip + struct.pack("!IHH", 0, UDP, length)


def encode_frame(
    datagram: Datagram,
    *,
    udp_checksum: int | None = None,
    options: bytes = b"",
    fragment: int = 0,
    protocol: int = UDP,
    trailer: bytes = b"",
) -> bytes:
    """A frame with this datagram.

    Args:
        datagram: what it carries.
        udp_checksum: in place of the right one.
        options: of the IPv4 header; a multiple of four bytes.
        fragment: flags and offset that are added to the IPv4 header's.
        protocol: in place of UDP.
        trailer: what fills the frame up behind the IP packet.
    """
    source, destination, payload, hops, traffic_class, dont_fragment = datagram
    ports_and_length = struct.pack("!HHH", source.port, destination.port, 8 + len(payload))
    if udp_checksum is None:
        udp_checksum = checksum(pseudo_header(datagram) + ports_and_length + bytes(2) + payload) or 0xFFFF
    udp = ports_and_length + udp_checksum.to_bytes(2) + payload
    if len(source.ip) == 4:
        size = 20 + len(options)
        head = struct.pack(
            "!BBHHHBBH4s4s",
            *(0x40 | size // 4, traffic_class, size + len(udp), 7, (0x4000 if dont_fragment else 0) | fragment),
            *(hops, protocol, 0, source.ip, destination.ip),
        )
        head += options
        head = head[:10] + checksum(head).to_bytes(2) + head[12:]
    else:
        head = (
            struct.pack("!IHBB", 6 << 28 | traffic_class << 20, len(udp), protocol, hops) + source.ip + destination.ip
        )
    return _TO_AND_FROM + _ETHERTYPES[len(source.ip)] + head + udp + trailer


def decode_frame(frame: bytes, *, allow_no_checksum: bool = False) -> Datagram:
    """Read a frame; the IP header says its version, because the Ethernet header may be written later.

    Raises:
        BadFrame: a length or a checksum is wrong, or something is left over.
    """
    packet = frame[ETHERNET_BYTES:]
    size = 20 if packet[0] >> 4 == 4 else 40
    dont_fragment = False
    if size == 20:
        version, traffic_class, length, _, fragment, hops, protocol, _, source, destination = struct.unpack(
            "!BBHHHBBH4s4s", packet[:20]
        )
        if version != 0x45 or fragment & 0xBFFF or checksum(packet[:20]):
            raise BadFrame("an IPv4 header with options, fragmented, or with a wrong checksum")
        dont_fragment = bool(fragment & 0x4000)
    else:
        first, length, protocol, hops, source, destination = struct.unpack("!IHBB16s16s", packet[:40])
        if first >> 28 != 6:
            raise BadFrame("no IP packet")
        traffic_class = first >> 20 & 0xFF
        length += 40
    if length != len(packet) or protocol != UDP:
        raise BadFrame(f"{length} bytes of protocol {protocol} in {len(packet)}")
    source_port, destination_port, udp_length, udp_checksum = struct.unpack("!HHHH", packet[size : size + 8])
    datagram = Datagram(
        TransportAddress(source, source_port),
        TransportAddress(destination, destination_port),
        packet[size + 8 :],
        hops,
        traffic_class,
        dont_fragment,
    )
    if udp_length != length - size:
        raise BadFrame(f"{udp_length} bytes of UDP in {length - size}")
    if udp_checksum == 0 and allow_no_checksum and size == 20:
        return datagram
    if udp_checksum == 0 or checksum(pseudo_header(datagram) + packet[size:]):
        raise BadFrame("a wrong checksum")
    return datagram
