"""The Binding method: tell a client the address that it is seen from (RFC 8489 §2, §6.3)."""

from stun.address import TransportAddress
from stun.attributes import XOR_MAPPED_ADDRESS
from stun.message import Message, encode_message, encode_unknown_attributes
from stun.registry import MessageClass, Method


def answer_binding(request: Message, client: TransportAddress) -> bytes:
    """The response to a Binding request: XOR-MAPPED-ADDRESS and nothing else, or 420 (RFC 8489 §6.3.1).

    No SOFTWARE and no reason phrase: the answer to a stranger must not be much larger than the request.
    """
    unknown = request.unknown_attributes()
    if unknown:
        return encode_unknown_attributes(request, unknown)
    return encode_message(
        Method.BINDING,
        MessageClass.SUCCESS,
        request.transaction_id,
        (XOR_MAPPED_ADDRESS.pack(client, request.transaction_id),),
        fingerprint=request.has_fingerprint,
    )
