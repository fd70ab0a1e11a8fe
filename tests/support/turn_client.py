"""A TURN client without I/O: signs requests with the product's encoder, reads and verifies the answers."""

import itertools
from typing import Any, NamedTuple, TypeVar

from stun.attributes import (
    ERROR_CODE,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    Attribute,
    PasswordAlgorithmEntry,
)
from stun.credentials import long_term_key, userhash
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_message
from stun.nonce import SecurityFeatures, security_features
from stun.registry import IntegrityAlgorithm, MessageClass, PasswordAlgorithm

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


class BidDown(AssertionError):
    """A challenge whose nonce promises password algorithms that somebody took out of it (RFC 8489 §9.2.5)."""


class TurnClient:
    """One user's side of the long-term credential mechanism (RFC 8489 §9.2.3).

    As it is made, a client like a browser: SHA-1 and MD5. With `is_modern` it obeys the challenge: the first password
    algorithm offered, SHA-256 for integrity, USERHASH where the nonce asks for it.
    """

    def __init__(self, username: str, password: str, *, is_modern: bool = False) -> None:
        self.username = username
        self.password = password
        self.is_modern = is_modern
        self.realm: str | None = None
        self.nonce: str | None = None
        self.offered: tuple[PasswordAlgorithmEntry, ...] | None = None
        self.password_algorithm: PasswordAlgorithm | None = None
        self.algorithm = IntegrityAlgorithm.SHA1
        self.fingerprint = False
        self.transaction_id = b""

    @property
    def key(self) -> IntegrityKey:
        assert self.realm is not None, "no challenge yet"
        algorithm = self.password_algorithm or PasswordAlgorithm.MD5
        return IntegrityKey(long_term_key(self.username, self.realm, self.password, algorithm))

    def build(self, method: int, *fields: Field, transaction_id: bytes | None = None) -> bytes:
        """A request; signed as soon as there was a challenge."""
        self.transaction_id = new_transaction_id() if transaction_id is None else transaction_id
        signed = self.nonce is not None
        if signed:
            fields += self.credentials()
        return encode_message(
            method,
            MessageClass.REQUEST,
            self.transaction_id,
            pack(self.transaction_id, *fields),
            key=self.key if signed else None,
            algorithm=self.algorithm,
            fingerprint=self.fingerprint,
        )

    def credentials(self) -> tuple[Field, ...]:
        """What an authenticated request carries besides its integrity (RFC 8489 §9.2.3.2, §9.2.5)."""
        assert self.nonce is not None and self.realm is not None, "no challenge yet"
        user: Field = (USERNAME, self.username)
        if self.is_modern and security_features(self.nonce) & SecurityFeatures.USERNAME_ANONYMITY:
            user = (USERHASH, userhash(self.username, self.realm))
        fields: tuple[Field, ...] = (user, (REALM, self.realm), (NONCE, self.nonce))
        if self.offered is not None:
            fields += ((PASSWORD_ALGORITHMS, self.offered),)
        if self.password_algorithm is not None:
            fields += ((PASSWORD_ALGORITHM, PasswordAlgorithmEntry(self.password_algorithm)),)
        return fields

    def read(self, data: bytes) -> Response:
        """Read an answer to the latest request, verify its integrity and learn from a challenge.

        Raises:
            BidDown: a modern client sees that the challenge was weakened on its way.
        """
        message = decode_message(data)
        assert message.transaction_id == self.transaction_id
        assert message.message_class in {MessageClass.SUCCESS, MessageClass.ERROR}
        if message.integrity is not None:
            message.verify(self.key)
        error = message.get(ERROR_CODE)
        assert (error is not None) == (message.message_class is MessageClass.ERROR)
        if error is not None and error.code in {401, 438}:
            self.realm, self.nonce = message.get(REALM), message.get(NONCE)
            if self.is_modern:
                self._obey(message)
        return Response(message, error.code if error is not None else 0, data)

    def _obey(self, challenge: Message) -> None:
        assert self.nonce is not None
        self.offered, self.password_algorithm = challenge.get(PASSWORD_ALGORITHMS), None
        if self.offered is not None:
            self.password_algorithm = PasswordAlgorithm(self.offered[0].algorithm)
            self.algorithm = IntegrityAlgorithm.SHA256
        elif security_features(self.nonce) & SecurityFeatures.PASSWORD_ALGORITHMS:
            raise BidDown("the challenge lost its PASSWORD-ALGORITHMS")


def new_transaction_id() -> bytes:
    """Twelve bytes that no earlier request had."""
    return next(_transactions).to_bytes(12)


def pack(transaction_id: bytes, *fields: Field) -> list[bytes]:
    """Attributes on the wire."""
    return [attribute.pack(value, transaction_id) for attribute, value in fields]


def indication(method: int, *fields: Field, fingerprint: bool = False) -> bytes:
    """An indication with these attributes."""
    transaction_id = new_transaction_id()
    attributes = pack(transaction_id, *fields)
    return encode_message(method, MessageClass.INDICATION, transaction_id, attributes, fingerprint=fingerprint)
