"""What an Allocate request asks for, and which combinations of that are contradictory (RFC 8656 §7.1, §7.2)."""

from typing import Final, NamedTuple

from relay.errors import AddressFamilyNotSupported, BadRequest, UnsupportedTransportProtocol
from relay.five_tuple import STREAMS, Transport
from stun.address import IPV4, IPV6
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    DONT_FRAGMENT,
    DRAFT_ADDITIONAL_ADDRESS_FAMILY,
    EVEN_PORT,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    USERNAME,
)
from stun.message import Message

UDP_PROTOCOL: Final = 17  # of REQUESTED-TRANSPORT (RFC 8656 §18.8)
TCP_PROTOCOL: Final = 6  # RFC 6062 §4.1
_FAMILIES: Final = (IPV4, IPV6)
_IPV4_ALONE: Final = (IPV4,)
# What browsers send is looked at once, and not attribute by attribute.
_OF_BROWSERS: Final = frozenset(attribute.type for attribute in (REQUESTED_TRANSPORT, LIFETIME, USERNAME, REALM, NONCE))


class Wish(NamedTuple):
    """What an Allocate request asks for; every combination that the RFC forbids has been refused."""

    families: tuple[int, ...]  # one, or both for a dual allocation
    even_port: bool | None  # EVEN-PORT with its R bit, None without the attribute
    reservation_token: bytes | None
    lifetime: int | None  # as asked for, in seconds
    protocol: int  # UDP_PROTOCOL or TCP_PROTOCOL


def read_wish(request: Message, transport: Transport, *, tcp_allocations: bool) -> Wish:
    """Read an Allocate request.

    Args:
        request: authenticated, and free of unknown attributes.
        transport: what it came over.
        tcp_allocations: whether RFC 6062 is switched on.

    Raises:
        BadRequest: REQUESTED-TRANSPORT is missing, or two attributes exclude each other.
        UnsupportedTransportProtocol: neither UDP nor, if switched on, TCP is asked for.
        AddressFamilyNotSupported: the family is not one that exists.
        MessageParseError: an attribute is malformed.
    """
    protocol = request.get(REQUESTED_TRANSPORT)
    if protocol is None:
        raise BadRequest("no_requested_transport")
    if protocol != UDP_PROTOCOL and not (tcp_allocations and protocol == TCP_PROTOCOL):
        raise UnsupportedTransportProtocol("requested_transport")
    if protocol == UDP_PROTOCOL and request.values.keys() <= _OF_BROWSERS:
        return Wish(_IPV4_ALONE, None, None, request.get(LIFETIME), protocol)
    even_port, token = request.get(EVEN_PORT), request.get(RESERVATION_TOKEN)
    if protocol == TCP_PROTOCOL:  # RFC 6062 §5.1
        if transport not in STREAMS:
            raise BadRequest("tcp_allocation_without_stream")
        if even_port is not None or token is not None or request.get(DONT_FRAGMENT) is not None:
            raise BadRequest("attribute_not_with_tcp")
    return Wish(_families(request, even_port, token), even_port, token, request.get(LIFETIME), protocol)


def _families(request: Message, even_port: bool | None, token: bytes | None) -> tuple[int, ...]:  # noqa: FBT001
    requested, additional = request.get(REQUESTED_ADDRESS_FAMILY), request.get(ADDITIONAL_ADDRESS_FAMILY)
    if additional is None:
        additional = request.get(DRAFT_ADDITIONAL_ADDRESS_FAMILY)
    if token is not None and (even_port is not None or requested is not None or additional is not None):
        raise BadRequest("reservation_with_other_wishes")
    if additional is not None:
        if requested is not None:
            raise BadRequest("two_address_families")
        if additional != IPV6:
            raise BadRequest("additional_address_family")
        if even_port:
            raise BadRequest("reservation_in_dual_allocation")
        return _FAMILIES
    if requested is None:
        return (IPV4,)
    if requested not in _FAMILIES:
        raise AddressFamilyNotSupported("family")
    return (requested,)
