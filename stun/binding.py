"""The Binding method: tell a client the address that it is seen from (RFC 8489 §2, §6.3)."""

import struct
from typing import Final

from stun.address import IPV4, TransportAddress
from stun.attributes import UNDERSTOOD_IN_BINDING, XOR_MAPPED_ADDRESS
from stun.message import Message, encode_success, encode_unknown_attributes
from stun.registry import HEADER_LENGTH, MAGIC_COOKIE, MessageClass, Method, message_type

_SUCCESS_TYPE: Final = message_type(Method.BINDING, MessageClass.SUCCESS)
_BARE_REQUEST: Final = message_type(Method.BINDING, MessageClass.REQUEST).to_bytes(2) + bytes(2) + MAGIC_COOKIE
_COOKIE: Final = int.from_bytes(MAGIC_COOKIE)
_SHORT_ANSWER: Final = struct.Struct("!HH4s12sHHHHI")  # header, then XOR-MAPPED-ADDRESS with an IPv4 address


def answer_binding(
    request: Message, client: TransportAddress, understood: frozenset[int] = UNDERSTOOD_IN_BINDING
) -> bytes:
    """The response to a Binding request: XOR-MAPPED-ADDRESS and nothing else, or 420 (RFC 8489 §6.3.1).

    No SOFTWARE and no reason phrase: the answer to a stranger must not be much larger than the request.

    Args:
        request: a Binding request.
        client: where it came from.
        understood: types of comprehension-required attributes that this server knows in Binding requests.
    """
    unknown = request.unknown_attributes(understood)
    if unknown:
        return encode_unknown_attributes(request, unknown)
    return encode_success(request, (XOR_MAPPED_ADDRESS.pack(client, request.transaction_id),))


def answer_plain_binding(data: bytes, client: TransportAddress) -> bytes | None:
    """The response to the Binding request that browsers send over IPv4, a bare header; None for anything else."""
    if len(data) != HEADER_LENGTH or data[:8] != _BARE_REQUEST or len(client.ip) != 4:
        return None
    ip, port = client
    return _SHORT_ANSWER.pack(
        _SUCCESS_TYPE,
        _SHORT_ANSWER.size - HEADER_LENGTH,
        MAGIC_COOKIE,
        data[8:],
        XOR_MAPPED_ADDRESS.type,
        8,
        IPV4,
        port ^ _COOKIE >> 16,
        int.from_bytes(ip) ^ _COOKIE,
    )
