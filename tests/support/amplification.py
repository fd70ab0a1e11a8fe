"""What a stranger gets for what it sends, in bytes of UDP payload: the figures that decide about reflection attacks.

python -m tests.support.amplification        # runs the relay and prints the table of docs/turn.md
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from stun.address import TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    USERNAME,
    XOR_PEER_ADDRESS,
    pack_attribute,
)
from stun.demux import encode_channel_data
from stun.integrity import IntegrityKey
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.turn_client import Field, indication, new_transaction_id, pack
from tests.support.wire_client import Server, run_relay

LIMIT: Final = 3.0  # of every message
BINDING_LIMITS: Final = {"127.0.0.1": 1.6, "::1": 2.2}  # an IPv6 address is longer
_PEER: Final = TransportAddress.parse("8.8.8.8", 4000)


class Measured(NamedTuple):
    """One message and its answers."""

    name: str
    request: int  # bytes
    answer: int  # bytes, of all answers

    @property
    def factor(self) -> float:
        """Bytes out per byte in."""
        return self.answer / self.request


def _request(method: int, *fields: Field, raw: tuple[bytes, ...] = (), fingerprint: bool = False) -> bytes:
    transaction_id = new_transaction_id()
    attributes = [*pack(transaction_id, *fields), *raw]
    return encode_message(method, MessageClass.REQUEST, transaction_id, attributes, fingerprint=fingerprint)


def _forged(method: int, *fields: Field) -> bytes:
    """A request that claims credentials."""
    transaction_id = new_transaction_id()
    claimed = (*fields, (USERNAME, "u"), (REALM, "r"), (NONCE, "n"))
    return encode_message(
        method, MessageClass.REQUEST, transaction_id, pack(transaction_id, *claimed), key=IntegrityKey(b"guess")
    )


def unauthenticated_messages() -> dict[str, bytes]:
    """Everything that somebody without credentials can send, by name."""
    udp = (REQUESTED_TRANSPORT, 17)
    bind = ((CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, _PEER))
    unknown = pack_attribute(0x7F01, b"")
    binding = _request(Method.BINDING)
    return {
        "Binding": binding,
        "Binding with FINGERPRINT": _request(Method.BINDING, fingerprint=True),
        "Binding of 700 bytes of SOFTWARE": _request(Method.BINDING, (SOFTWARE, "x" * 700)),
        "Binding with an unknown attribute": _request(Method.BINDING, raw=(unknown,)),
        "Binding with 100 unknown attributes": _request(Method.BINDING, raw=(unknown,) * 100),
        "Binding with forged credentials": _forged(Method.BINDING),
        "Binding of RFC 3489, without cookie": binding[:4] + bytes(4) + binding[8:],
        "Allocate of Chromium": _request(Method.ALLOCATE, udp),
        "Allocate of Firefox": _request(Method.ALLOCATE, udp, (LIFETIME, 3600), fingerprint=True),
        "Allocate without anything": _request(Method.ALLOCATE),
        "Allocate with an unknown attribute": _request(Method.ALLOCATE, udp, raw=(unknown,)),
        "Allocate with forged credentials": _forged(Method.ALLOCATE, udp),
        "Allocate with integrity alone": encode_message(
            Method.ALLOCATE, MessageClass.REQUEST, new_transaction_id(), (), key=IntegrityKey(b"guess")
        ),
        "Allocate of 64,000 bytes": _request(Method.ALLOCATE, udp, raw=(pack_attribute(0xFF01, bytes(63_960)),)),
        "Refresh": _request(Method.REFRESH),
        "Refresh with LIFETIME": _request(Method.REFRESH, (LIFETIME, 0)),
        "CreatePermission": _request(Method.CREATE_PERMISSION),
        "CreatePermission with a peer": _request(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, _PEER)),
        "ChannelBind": _request(Method.CHANNEL_BIND),
        "ChannelBind with channel and peer": _request(Method.CHANNEL_BIND, *bind),
        "Connect": _request(0x00A, (XOR_PEER_ADDRESS, _PEER)),
        "ConnectionBind": _request(0x00B, raw=(pack_attribute(0x002A, bytes(4)),)),
        "a request of an unknown method": _request(0x07F),
        "Binding indication": indication(Method.BINDING),
        "Send indication": indication(Method.SEND, (XOR_PEER_ADDRESS, _PEER), (DATA, bytes(100))),
        "Data indication": indication(Method.DATA, (XOR_PEER_ADDRESS, _PEER), (DATA, bytes(100))),
        "a success response": encode_message(Method.BINDING, MessageClass.SUCCESS, new_transaction_id()),
        "an error response": encode_message(Method.ALLOCATE, MessageClass.ERROR, new_transaction_id()),
        "ChannelData": encode_channel_data(0x4000, bytes(100)),
        "a DTLS record of nonsense": bytes.fromhex("16fefd0000000000000000000c") + bytes(12),
        "one byte": b"\x00",
        "20 bytes of zeros": bytes(20),
        "1,200 bytes of ones": b"\xff" * 1200,
    }


def measure(server: Server, host: str) -> Iterator[Measured]:
    """Send each message from a socket of its own and count what comes back."""
    for name, message in unauthenticated_messages().items():
        with contextlib.closing(server.client(host=host)) as client:
            client.wire.send(message)
            answers = 0
            last = client.binding()  # answers keep their order: what comes before this one's belongs to the message
            client.wire.send(last)
            while (answer := client.wire.receive())[8:20] != last[8:20]:
                answers += len(answer)
            yield Measured(name, len(message), answers)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, run_relay(Path(folder)) as server:
        both = [list(measure(server, host)) for host in BINDING_LIMITS]
    sys.stdout.write(
        "| message | bytes | answered over IPv4 | factor | over IPv6 | factor |\n|---|--:|--:|--:|--:|--:|\n"
    )
    for v4, v6 in zip(*both, strict=True):
        cells = (v4.name, v4.request, v4.answer, f"{v4.factor:.2f}", v6.answer, f"{v6.factor:.2f}")
        sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")


if __name__ == "__main__":
    main()
