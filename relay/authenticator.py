"""The long-term credential mechanism on the server's side (RFC 8489 §9.2.4)."""

from typing import NamedTuple

from relay.errors import BadRequest, StaleNonce, Unauthenticated
from stun.address import TransportAddress
from stun.attributes import NONCE, REALM, USERNAME
from stun.credentials import CredentialBook
from stun.errors import CredentialError, IntegrityError, StaleNonceError
from stun.message import Message
from stun.nonce import NonceSealer


class Identity(NamedTuple):
    """Who sent a request, and the key that the response is signed with."""

    username: str
    key: bytes


class Authenticator:
    """Verifies requests without remembering anything about those who have not proved who they are."""

    def __init__(self, credentials: CredentialBook, nonces: NonceSealer) -> None:
        self._credentials = credentials
        self._nonces = nonces

    @property
    def realm(self) -> str:
        """The REALM of every challenge."""
        return self._credentials.realm

    def authenticate(self, request: Message, client: TransportAddress, unix_time: float) -> Identity:
        """Verify a request in the order that RFC 8489 §9.2.4 demands.

        Raises:
            Unauthenticated: there are no credentials, or they are unknown, expired or wrong.
            BadRequest: integrity without USERNAME, REALM or NONCE.
            StaleNonce: the nonce has expired or was made for another address.
            MessageParseError: one of the attributes is malformed.
        """
        if request.integrity is None:
            raise Unauthenticated("no_credentials")
        username, realm, nonce = request.get(USERNAME), request.get(REALM), request.get(NONCE)
        if username is None or realm is None or nonce is None:
            raise BadRequest("incomplete_credentials")
        if realm != self._credentials.realm:
            raise Unauthenticated("wrong_realm")
        try:
            keys = self._credentials.keys(username, unix_time)
        except CredentialError as error:
            raise Unauthenticated(error.reason.value) from error
        key = _fitting_key(request, keys)
        try:  # last: whoever does not know the password learns nothing from an old nonce, and gets 401
            self._nonces.verify(nonce, client, unix_time)
        except StaleNonceError as error:
            raise StaleNonce("stale_nonce") from error
        return Identity(username, key)

    def challenge(self, client: TransportAddress, unix_time: float) -> tuple[bytes, bytes]:
        """REALM and a fresh NONCE, as 401 and 438 carry them."""
        return REALM.pack(self.realm), NONCE.pack(self._nonces.issue(client, unix_time))


def _fitting_key(request: Message, keys: tuple[bytes, ...]) -> bytes:
    for key in keys:
        try:
            request.verify(key)
        except IntegrityError:
            continue  # another of the shared secrets may fit
        return key
    raise Unauthenticated("wrong_password")
