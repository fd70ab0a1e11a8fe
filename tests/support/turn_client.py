"""A TURN client without I/O: signs requests with the product's encoder, reads and verifies the answers."""

import itertools
from typing import Any, NamedTuple, TypeVar

from stun.attributes import ERROR_CODE, NONCE, REALM, USERNAME, Attribute
from stun.credentials import long_term_key
from stun.integrity import IntegrityAlgorithm
from stun.message import Message, decode_message, encode_message
from stun.registry import MessageClass

T = TypeVar("T")
Field = tuple[Attribute[Any], Any]

_transactions = itertools.count(1)


class Response(NamedTuple):
    """What came back."""

    message: Message
    code: int  # 0 for success
    raw: bytes

    def get(self, attribute: Attribute[T]) -> T:
        """The value of an attribute that must be there."""
        value = self.message.get(attribute)
        assert value is not None, f"{attribute} is missing"
        return value

    def has(self, attribute: Attribute[Any]) -> bool:
        return self.message.get(attribute) is not None


class TurnClient:
    """One user's side of the long-term credential mechanism (RFC 8489 §9.2.3)."""

    def __init__(self, username: str, password: str) -> None:
        self.username = username
        self.password = password
        self.realm: str | None = None
        self.nonce: str | None = None
        self.algorithm = IntegrityAlgorithm.SHA1
        self.fingerprint = False
        self.transaction_id = b""

    @property
    def key(self) -> bytes:
        assert self.realm is not None, "no challenge yet"
        return long_term_key(self.username, self.realm, self.password)

    def build(self, method: int, *fields: Field, transaction_id: bytes | None = None) -> bytes:
        """A request; signed as soon as there was a challenge."""
        self.transaction_id = new_transaction_id() if transaction_id is None else transaction_id
        signed = self.nonce is not None
        if signed:
            fields += ((USERNAME, self.username), (REALM, self.realm), (NONCE, self.nonce))
        return encode_message(
            method,
            MessageClass.REQUEST,
            self.transaction_id,
            pack(self.transaction_id, *fields),
            key=self.key if signed else None,
            algorithm=self.algorithm,
            fingerprint=self.fingerprint,
        )

    def read(self, data: bytes) -> Response:
        """Read an answer to the latest request, verify its integrity and learn from a challenge."""
        message = decode_message(data)
        assert message.transaction_id == self.transaction_id
        assert message.message_class in {MessageClass.SUCCESS, MessageClass.ERROR}
        if message.integrity is not None:
            message.verify(self.key)
        error = message.get(ERROR_CODE)
        assert (error is not None) == (message.message_class is MessageClass.ERROR)
        if error is not None and error.code in {401, 438}:
            self.realm, self.nonce = message.get(REALM), message.get(NONCE)
        return Response(message, error.code if error is not None else 0, data)


def new_transaction_id() -> bytes:
    """Twelve bytes that no earlier request had."""
    return next(_transactions).to_bytes(12)


def pack(transaction_id: bytes, *fields: Field) -> list[bytes]:
    """Attributes on the wire."""
    return [attribute.pack(value, transaction_id) for attribute, value in fields]


def indication(method: int, *fields: Field) -> bytes:
    """An indication with these attributes."""
    transaction_id = new_transaction_id()
    return encode_message(method, MessageClass.INDICATION, transaction_id, pack(transaction_id, *fields))
