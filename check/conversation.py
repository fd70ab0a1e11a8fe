"""A client's side of STUN and TURN over one five-tuple, without I/O (RFC 8489 §9.2.3, RFC 8656 §6 to §11)."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from stun.address import TransportAddress
from stun.attributes import (
    DATA,
    ERROR_CODE,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
    pack_attribute,
)
from stun.credentials import Credential, long_term_key
from stun.errors import IntegrityError
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_message
from stun.registry import HEADER_LENGTH, MessageClass, Method

TRANSACTION_ID_BYTES: Final = 12
UDP: Final = 17  # the protocol number in REQUESTED-TRANSPORT
FILLER: Final = 0xFFF0  # a type that nobody has: comprehension-optional, so that every server passes over it
_CHALLENGES: Final = frozenset({401, 438})

Field = tuple[Attribute[Any], Any]


class Answer(NamedTuple):
    """A response to a request."""

    transaction_id: bytes
    code: int  # of the error; 0 for success
    mapped: TransportAddress | None
    relayed: TransportAddress | None


class PeerData(NamedTuple):
    """What a peer sent to the relayed address."""

    peer: TransportAddress
    data: bytes


class Conversation:
    """Builds requests and reads what comes. As soon as a server has challenged it, it signs, like a browser: SHA-1."""

    def __init__(self, credential: Credential | None = None) -> None:
        self._credential = credential
        self._challenge: tuple[str, str] | None = None  # realm and nonce
        self._key: IntegrityKey | None = None

    @property
    def is_challenged(self) -> bool:
        """Whether the next request is signed."""
        return self._key is not None

    def binding(self, transaction_id: bytes, size: int = HEADER_LENGTH) -> bytes:
        """A Binding request of `size` bytes, a multiple of four; below 24 it is a bare header."""
        filler = [pack_attribute(FILLER, bytes(size - HEADER_LENGTH - 4))] if size >= HEADER_LENGTH + 4 else []
        return encode_message(Method.BINDING, MessageClass.REQUEST, transaction_id, filler)

    def allocate(self, transaction_id: bytes, family: int) -> bytes:
        """An Allocate request for a relayed UDP address of a family, 0x01 or 0x02."""
        fields: list[Field] = [(REQUESTED_TRANSPORT, UDP)]
        if family != 0x01:  # left out where it is the default: old servers do not know it
            fields.append((REQUESTED_ADDRESS_FAMILY, family))
        return self._request(Method.ALLOCATE, transaction_id, fields)

    def create_permission(self, transaction_id: bytes, peer: TransportAddress) -> bytes:
        """A CreatePermission request for the IP address of a peer."""
        return self._request(Method.CREATE_PERMISSION, transaction_id, [(XOR_PEER_ADDRESS, peer)])

    def refresh(self, transaction_id: bytes, lifetime: int | None = None) -> bytes:
        """A Refresh request; with a lifetime of 0 seconds it gives the allocation back."""
        return self._request(Method.REFRESH, transaction_id, [] if lifetime is None else [(LIFETIME, lifetime)])

    def send(self, transaction_id: bytes, peer: TransportAddress, data: bytes) -> bytes:
        """A Send indication: data for a peer."""
        attributes = (XOR_PEER_ADDRESS.pack(peer, transaction_id), DATA.pack(data))
        return encode_message(Method.SEND, MessageClass.INDICATION, transaction_id, attributes)

    def read(self, data: bytes) -> Answer | PeerData | None:
        """Read one message of the server; None for what is neither a response nor data.

        Raises:
            MessageParseError: it is no STUN message, or one of its values is malformed.
            IntegrityError: it is signed, but not with our password.
        """
        message = decode_message(data)
        if message.method == Method.DATA and message.message_class is MessageClass.INDICATION:
            peer, payload = message.get(XOR_PEER_ADDRESS), message.get(DATA)
            return PeerData(peer, payload) if peer is not None and payload is not None else None
        if message.message_class not in {MessageClass.SUCCESS, MessageClass.ERROR}:
            return None
        if self._key is not None and message.integrity is not None:
            message.verify(self._key)
        if message.message_class is MessageClass.SUCCESS:
            if self._key is not None and message.integrity is None and message.method != Method.BINDING:
                raise IntegrityError("a response without integrity")
            mapped, relayed = message.get(XOR_MAPPED_ADDRESS), message.get(XOR_RELAYED_ADDRESS)
            return Answer(message.transaction_id, 0, mapped, relayed)
        error = message.get(ERROR_CODE)
        if error is None:
            return None
        if error.code in _CHALLENGES:
            self._learn(message)
        return Answer(message.transaction_id, error.code, None, None)

    def _learn(self, challenge: Message) -> None:
        realm, nonce = challenge.get(REALM), challenge.get(NONCE)
        if realm is None or nonce is None or self._credential is None:
            return
        username, password = self._credential
        if self._challenge is None or self._challenge[0] != realm:
            self._key = IntegrityKey(long_term_key(username, realm, password))
        self._challenge = realm, nonce

    def _request(self, method: Method, transaction_id: bytes, fields: Iterable[Field]) -> bytes:
        signed: list[Field] = []
        if self._challenge is not None and self._credential is not None:
            realm, nonce = self._challenge
            signed = [(USERNAME, self._credential.username), (REALM, realm), (NONCE, nonce)]
        packed = [attribute.pack(value, transaction_id) for attribute, value in (*fields, *signed)]
        return encode_message(method, MessageClass.REQUEST, transaction_id, packed, key=self._key)
