"""NAT behaviour discovery (RFC 5780), the server's side: answers that come from, or go to, another port or address.

The server has two addresses of a family with two ports each, and all four are listening UDP sockets. What this module
makes possible could be turned against others, so:

- An answer never exceeds three times its request (`relay.reflection`). Of the attributes that are due,
  XOR-MAPPED-ADDRESS is always there; OTHER-ADDRESS, RESPONSE-ORIGIN and MAPPED-ADDRESS follow in this order, each only
  if it fits. A bare request of 20 bytes over IPv4 gets the first three; over IPv6 a client makes its request longer,
  by an empty PADDING or a FINGERPRINT, to be told OTHER-ADDRESS.
- The destination's IP address is always the source's: RESPONSE-PORT chooses nothing but the port, and none below 1024,
  where no client has its socket. Nobody is told whether it arrived, so that it scans nothing.
- Requests that steer an answer (CHANGE-REQUEST with a flag, RESPONSE-PORT) or inflate it (PADDING) pass a `SourceGuard`
  of their own, at a rate that suits a person who looks for a fault; what is above it gets no answer.
- Where the server is not asked over UDP, or has no second address, nothing is steered: 400 and 420.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.errors import BadRequest
from relay.five_tuple import FiveTuple, Transport
from relay.reflection import MAX_FACTOR
from relay.source_guard import SourceGuard
from stun.address import TransportAddress
from stun.attributes import (
    CHANGE_REQUEST,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    UNDERSTOOD_IN_BINDING,
    UNDERSTOOD_WITH_DISCOVERY,
    XOR_MAPPED_ADDRESS,
    ChangeRequest,
)
from stun.errors import MessageParseError
from stun.message import Message, encode_error, encode_message, encode_unknown_attributes
from stun.registry import HEADER_LENGTH, ErrorCode, MessageClass, Method

MIN_RESPONSE_PORT: Final = 1024
MAX_PADDING_BYTES: Final = 1500  # the usual MTU, a multiple of four (RFC 5780 §7.6): with its header it is fragmented
STEERED_PER_SECOND: Final = 2.0  # answers to one source that are steered or inflated
STEERED_BURST: Final = 50  # a whole discovery with its retransmissions takes about thirty

_UNDERSTOOD: Final = UNDERSTOOD_IN_BINDING | UNDERSTOOD_WITH_DISCOVERY
_UNDERSTOOD_WITHOUT_ALTERNATE: Final = _UNDERSTOOD - {CHANGE_REQUEST.type}  # RFC 5780 §6.1
_STAY: Final = ChangeRequest(ip=False, port=False)
_FINGERPRINT_BYTES: Final = 8
_ATTRIBUTE_HEADER_BYTES: Final = 4


class Answer(NamedTuple):
    """One datagram, and the listening socket that has to send it."""

    data: bytes
    source: TransportAddress  # one of the server's own, as bound
    destination: TransportAddress


class _Wish(NamedTuple):
    """What a Binding request asks for beyond RFC 8489."""

    change: ChangeRequest
    response_port: int | None
    has_padding: bool

    @property
    def is_special(self) -> bool:
        return self.change != _STAY or self.response_port is not None or self.has_padding


class BehaviourDiscovery:
    """Answers Binding requests of every transport as RFC 5780 demands; keeps nothing but the rate of its sources."""

    def __init__(
        self,
        alternates: Mapping[TransportAddress, TransportAddress],
        guard: SourceGuard,
        advertised: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Know the server's addresses.

        Args:
            alternates: for each UDP listener that takes part, the one whose IP address and port are both other ones.
                A family with one address, or with one port, is left out.
            guard: rate of steered answers, `STEERED_PER_SECOND` and `STEERED_BURST`.
            advertised: own packed IP addresses as clients see them, where a one-to-one NAT translates.

        Raises:
            ValueError: the alternates of a family are not two addresses with two ports each.
        """
        for server, other in alternates.items():
            corners = (server, other, TransportAddress(other.ip, server.port), TransportAddress(server.ip, other.port))
            if len(set(corners)) != 4 or server.family != other.family or alternates.get(other) != server:
                raise ValueError(f"{server} and {other} are not opposite corners of two addresses with two ports")
            if any(corner not in alternates for corner in corners):
                raise ValueError(f"{server} and {other} lack the corners between them")
        self._alternates = dict(alternates)
        self._guard = guard
        self._advertised = dict(advertised or {})

    def answer(self, request: Message, path: FiveTuple, now: float) -> Answer | None:
        """Answer a Binding request (RFC 5780 §6.1), or don't if its source asks for too many steered answers.

        The caller sends `Answer.data` from the UDP listener bound to `Answer.source`; a stream or DTLS client gets it
        over its connection, and source and destination are then those of the path.

        Args:
            request: a Binding request.
            path: where it came from, and where to.
            now: monotonic time, in seconds.
        """
        other = self._alternates.get(path.server) if path.transport is Transport.UDP else None
        unknown = request.unknown_attributes(_UNDERSTOOD_WITHOUT_ALTERNATE if other is None else _UNDERSTOOD)
        if unknown:
            return Answer(encode_unknown_attributes(request, unknown), path.server, path.client)
        try:
            wish = _wish(request, path)
        except (MessageParseError, BadRequest):
            return Answer(encode_error(request, ErrorCode.BAD_REQUEST), path.server, path.client)
        if wish.is_special and not self._guard.admit(path.client.ip, now):
            return None
        source = path.server if other is None else _source(path.server, other, wish.change)
        port = path.client.port if wish.response_port is None else wish.response_port
        data = self._response(request, path.client, source, other, has_padding=wish.has_padding)
        return Answer(data, source, TransportAddress(path.client.ip, port))

    def _response(
        self,
        request: Message,
        client: TransportAddress,
        source: TransportAddress,
        other: TransportAddress | None,
        *,
        has_padding: bool,
    ) -> bytes:
        transaction_id = request.transaction_id
        attributes = [XOR_MAPPED_ADDRESS.pack(client, transaction_id)]
        budget = MAX_FACTOR * len(request.raw) - HEADER_LENGTH - len(attributes[0])
        if request.has_fingerprint:
            budget -= _FINGERPRINT_BYTES
        optional = [RESPONSE_ORIGIN.pack(self._as_seen(source)), MAPPED_ADDRESS.pack(client)]
        if other is not None:
            optional.insert(0, OTHER_ADDRESS.pack(self._as_seen(other)))
        for attribute in optional:
            if len(attribute) > budget:
                break
            attributes.append(attribute)
            budget -= len(attribute)
        if has_padding and budget >= _ATTRIBUTE_HEADER_BYTES:
            size = min(budget - _ATTRIBUTE_HEADER_BYTES & ~3, MAX_PADDING_BYTES)
            attributes.append(PADDING.pack(bytes(size)))
        return encode_message(
            Method.BINDING,
            MessageClass.SUCCESS,
            transaction_id,
            attributes,
            fingerprint=request.has_fingerprint,
        )

    def _as_seen(self, address: TransportAddress) -> TransportAddress:
        return TransportAddress(self._advertised.get(address.ip, address.ip), address.port)


def _source(server: TransportAddress, other: TransportAddress, change: ChangeRequest) -> TransportAddress:
    """RFC 5780 §6.1, table 1."""
    return TransportAddress(other.ip if change.ip else server.ip, other.port if change.port else server.port)


def _wish(request: Message, path: FiveTuple) -> _Wish:
    """Read what a request asks for.

    Raises:
        BadRequest: it asks for what must not or cannot be combined.
        MessageParseError: one of the values is malformed.
    """
    wish = _Wish(request.get(CHANGE_REQUEST) or _STAY, request.get(RESPONSE_PORT), request.get(PADDING) is not None)
    if wish.is_special and path.transport is not Transport.UDP:
        raise BadRequest("discovery_without_udp")
    if wish.response_port is not None:
        if wish.has_padding:  # RFC 5780 §6.1
            raise BadRequest("response_port_with_padding")
        if wish.response_port < MIN_RESPONSE_PORT:
            raise BadRequest("response_port")
    return wish
