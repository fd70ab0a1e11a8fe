"""The bytes of keys and values, as relay.bpf.c declares them."""

import hashlib
import struct
from typing import Final

from relay.datapath import Limits
from relay.io.datapath.bpf.egress import NextHop
from relay.io.datapath.bpf.flow import Kind, Onward, Way
from stun.address import IPV4, IPV6, TransportAddress

WAY_BYTES: Final = 56
ONWARD_BYTES: Final = 88
SLOT_BYTES: Final = 128
LOCAL_BYTES: Final = 20

# Words of 64 bits within a slot. Each direction has its own copy of what a byte costs.
PACKETS_TO_PEER, BYTES_TO_PEER, TO_PEER_UNTIL, TO_PEER_BYTE_COST = 0, 1, 2, 3
CLIENT_HEARD_AT = 6
PACKETS_TO_CLIENT, BYTES_TO_CLIENT, TO_CLIENT_UNTIL, TO_CLIENT_BYTE_COST = 8, 9, 10, 11
TO_CLIENT_UNTIL_PACKETS, TO_CLIENT_PACKET_COST = 12, 13
SLOT_WORDS: Final = SLOT_BYTES // 8

MAX_SLOTS: Final = 1 << 20
MAX_FLOWS: Final = 1 << 22

_WAY: Final = struct.Struct("!16s16s16sHHHBB")
_ADDRESSES: Final = struct.Struct("!16s16sHHHBB")
_REST: Final = struct.Struct("=II4sHHQ16s")
_CHECKED: Final = struct.Struct("<17Q")  # a key, and a value without its check
_CHECK: Final = struct.Struct("<Q")
_CHECK_FACTOR: Final = 0x9E3779B97F4A7C15
_LOCAL: Final = struct.Struct("!16sH")
_MEETS: Final = 1
_NEXT_HOP_V6: Final = 2
_LOW_HALF: Final = 0xFFFF  # of an index: two interfaces that are alike in it are 65,536 apart
_SEND_V4: Final = 1  # the kinds of a Send indication, by the family of its peer; others have the number of their Kind
_SEND_V6: Final = 4
_COST_SHIFT: Final = 16
_SECOND: Final = 1_000_000_000  # nanoseconds
_WORD: Final = (1 << 64) - 1
_FLOW_LABEL_MASK: Final = 0xFFFFF


def encode_way(way: Way) -> bytes:
    """The key of a flow."""
    remote, local, peer = way.remote, way.local, way.peer
    kind, ip, port = int(way.kind), bytes(16), way.number
    if peer is not None:
        kind, ip, port = _SEND_V4 if peer.family == IPV4 else _SEND_V6, _wide(peer.ip), peer.port
    return _WAY.pack(_wide(remote.ip), _wide(local.ip), ip, remote.port, local.port, port, kind, remote.family)


def decode_way(key: bytes) -> Way:
    """What the key of a flow says."""
    remote_ip, local_ip, peer_ip, remote_port, local_port, port, kind, family = _WAY.unpack(key)
    remote = TransportAddress(_narrow(remote_ip, family), remote_port)
    local = TransportAddress(_narrow(local_ip, family), local_port)
    if kind not in (_SEND_V4, _SEND_V6):
        return Way(Kind(kind), remote, local, port)
    peer = TransportAddress(_narrow(peer_ip, IPV4 if kind == _SEND_V4 else IPV6), port)
    return Way(Kind.SEND, remote, local, peer=peer)


def encode_onward(key: bytes, onward: Onward, hop: NextHop, secret: bytes, *, arrives: int = 0) -> bytes:
    """The value of a flow.

    Args:
        key: of the flow.
        onward: what becomes of its packets.
        hop: where they go next.
        secret: makes IPv6 flow labels that tell nothing (RFC 6437 §3).
        arrives: the index of the interface that its packets come in by; 0 if it does not matter.
    """
    source, destination = onward.source, onward.destination
    flags = (_MEETS if onward.meets else 0) | (_NEXT_HOP_V6 if len(hop.ip) == 16 else 0)
    ends = (_wide(source.ip), _wide(destination.ip), source.port, destination.port, onward.number, source.family)
    addresses = _ADDRESSES.pack(*ends, flags)
    label = bytes(4)
    if source.family == IPV6:
        hashed = hashlib.blake2b(addresses, digest_size=4, key=secret).digest()
        label = (int.from_bytes(hashed) & _FLOW_LABEL_MASK).to_bytes(4)
    rest = (onward.slot, hop.interface, label, arrives & _LOW_HALF, hop.path_mtu, onward.expires_at, hop.ip)
    value = addresses + _REST.pack(*rest)
    return value + _check(key + value)


def encode_local(ip: bytes, port: int) -> bytes:
    """The key of a transport address of ours; with port 0, of an IP address."""
    return _LOCAL.pack(_wide(ip), port) + (IPV4 if len(ip) == 4 else IPV6).to_bytes(2, "little")


def costs(limits: Limits) -> tuple[int, int]:
    """What one byte, and one packet from a peer, takes of a bucket: nanoseconds times 2^16; 0 without a limit."""
    return _cost(limits.bytes_per_second), _cost(limits.packets_per_second)


def _check(data: bytes) -> bytes:
    """What tells the program that it has read a whole value, and the one of this key."""
    total, factor = 0, 1
    for word in _CHECKED.unpack(data):
        factor = factor * _CHECK_FACTOR & _WORD
        total += word * factor
    return _CHECK.pack(total & _WORD)


def _cost(per_second: int) -> int:
    return max(1, (_SECOND << _COST_SHIFT) // per_second) if per_second else 0


def _wide(ip: bytes) -> bytes:
    return ip.rjust(16, b"\0")


def _narrow(ip: bytes, family: int) -> bytes:
    return ip[12:] if family == IPV4 else ip
