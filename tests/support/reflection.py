"""Measures how much larger the answers to a stranger are than what the stranger sent.

Used by the unit tests against the control plane, by conformance tests over real sockets, and for the published table:
`measure(exchange)` takes any function that sends one datagram and returns the answers.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from stun.attributes import (
    CHANNEL_NUMBER,
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    USERNAME,
    pack_attribute,
)
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.turn_client import Field, new_transaction_id, pack

Exchange = Callable[[bytes], Iterable[bytes]]

_EMPTY_UNKNOWN: Final = [pack_attribute(number, b"") for number in range(0x7FE0, 0x7FE9)]
_WRONG_INTEGRITY: Final = [b"", MESSAGE_INTEGRITY.pack(bytes(20)), MESSAGE_INTEGRITY_SHA256.pack(bytes(32))]


class Factor(NamedTuple):
    """The largest answer that a stranger can draw with one kind of message."""

    kind: str
    request_bytes: int
    answer_bytes: int  # of all answers to the one message

    @property
    def ratio(self) -> float:
        return self.answer_bytes / self.request_bytes


def measure(exchange: Exchange, *, peer: Field, realm: str) -> dict[str, Factor]:
    """Send every kind of message that needs no password, in all its forms; the worst form of each kind counts.

    Args:
        exchange: sends one datagram from a client without an allocation, and returns all that comes back; about
            2,100 times, so that a source which stays the same meets the rate of its challenges.
        peer: XOR-PEER-ADDRESS of any peer of the server's families.
        realm: the server's, so that the answers of all stages of authentication are seen.
    """
    worst: dict[str, Factor] = {}
    for kind, data in _messages(peer, realm):
        factor = Factor(kind, len(data), sum(map(len, exchange(data))))
        if kind not in worst or factor.ratio > worst[kind].ratio:
            worst[kind] = factor
    return worst


def _messages(peer: Field, realm: str) -> Iterator[tuple[str, bytes]]:
    forms: dict[Method, list[tuple[Field, ...]]] = {
        Method.BINDING: [()],
        Method.ALLOCATE: [
            (),
            ((REQUESTED_TRANSPORT, 17),),
            ((REQUESTED_TRANSPORT, 17), (REQUESTED_ADDRESS_FAMILY, 2)),
            ((REQUESTED_TRANSPORT, 6),),
        ],
        Method.REFRESH: [(), ((LIFETIME, 0),), ((LIFETIME, 600),)],
        Method.CREATE_PERMISSION: [(), (peer,)],
        Method.CHANNEL_BIND: [(), ((CHANNEL_NUMBER, 0x4000), peer)],
    }
    for method in Method:
        for fields in forms.get(method, [()]):
            yield from _requests(method, fields, realm)
        for message_class in (MessageClass.INDICATION, MessageClass.SUCCESS, MessageClass.ERROR):
            kind = f"{message_class.name.lower()} of any method"
            yield kind, encode_message(method, message_class, new_transaction_id(), pack(bytes(12), peer))
    yield "request of an unknown method", encode_message(0xABC, MessageClass.REQUEST, new_transaction_id())
    yield "ChannelData", encode_channel_data(0x4000, b"")
    yield "ChannelData", encode_channel_data(0x4000, bytes(100))
    yield from (("junk", bytes(size)) for size in (1, 4, 19, 20, 100))


def _requests(method: Method, fields: tuple[Field, ...], realm: str) -> Iterator[tuple[str, bytes]]:
    """One request bare, with FINGERPRINT, with attributes that nobody knows, and with credentials that are wrong."""
    credentials: list[tuple[Field, ...]] = [
        (),
        ((USERNAME, "a"),),
        ((USERNAME, "a"), (REALM, realm), (NONCE, "n")),
        ((USERNAME, "9999999999:a"), (REALM, realm), (NONCE, "n")),
        ((USERNAME, "a"), (REALM, "r"), (NONCE, "n")),
    ]
    kind = method.name.replace("_", " ").capitalize()
    for fingerprint in (False, True):
        for unknown in (0, 1, 2, len(_EMPTY_UNKNOWN)):
            for proof in credentials:
                for integrity in _WRONG_INTEGRITY:
                    transaction_id = new_transaction_id()
                    attributes = [*pack(transaction_id, *fields, *proof), *_EMPTY_UNKNOWN[:unknown], integrity]
                    yield (
                        kind,
                        encode_message(
                            method,
                            MessageClass.REQUEST,
                            transaction_id,
                            attributes,
                            fingerprint=fingerprint,
                        ),
                    )
