"""How DTLS meets strangers: a cookie proves that a client receives where it sends from (RFC 6347 §4.2.1).

Until it has come back, nothing is remembered of the client, and it has been sent fewer bytes than it sent itself.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, cast

from OpenSSL import SSL

from relay.io.clients import Buffer
from stun.address import TransportAddress

COOKIE_BYTES: Final = 16  # a HelloVerifyRequest of 44 bytes; the smallest ClientHello that gets one has 61
SLOT_SECONDS: Final = 30  # a cookie is good until the end of the slot after its own
HANDSHAKE_MTU_BYTES: Final = 1200  # UDP payload that passes everywhere, IPv6 tunnels included

# Where a ClientHello has its random: after the headers of record (13 bytes) and handshake message (12), and a version.
HELLO_RANDOM: Final = slice(27, 59)
_MIN_HELLO_BYTES: Final = 61  # with the lengths of session ID and cookie
MAX_HELLO_BYTES: Final = 2048  # OpenSSL takes it in one bite, so nothing is left over for the next
_MIN_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = hashlib.blake2b.MAX_KEY_SIZE


class DtlsCookies:
    """Makes and checks cookies, and remembers nothing.

    A cookie is a keyed hash over a time slot, the client's address and the random of its ClientHello. The random is
    the client parameter of RFC 6347 §4.2.1 that no two clients share: a cookie is good for one handshake only.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take the secret keys.

        Args:
            keys: the first makes the cookies, each of them is good for checking. Servers that share their keys take
                each other's cookies.

        Raises:
            ValueError: there is no key, or one is too short or too long.
        """
        if not keys:
            raise ValueError("no key to make cookies with")
        if any(not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES for key in keys):
            raise ValueError(f"a cookie key has {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes")
        self._keys = tuple(keys)

    def make(self, client: TransportAddress, hello_random: bytes, unix_time: float) -> bytes:
        """The cookie for a client that has sent a ClientHello with this random."""
        return _cookie(self._keys[0], int(unix_time) // SLOT_SECONDS, client, hello_random)

    def accepts(self, cookie: bytes, client: TransportAddress, hello_random: bytes, unix_time: float) -> bool:
        """Whether this client was sent the cookie in this time slot or the one before; in a form that OpenSSL takes."""
        slot = int(unix_time) // SLOT_SECONDS
        return any(
            hmac.compare_digest(cookie, _cookie(key, earlier, client, hello_random))
            for key in self._keys
            for earlier in (slot, slot - 1)
        )


def _cookie(key: bytes, slot: int, client: TransportAddress, hello_random: bytes) -> bytes:
    # Everything but the address has a fixed size, so no two inputs are written alike.
    message = slot.to_bytes(8) + client.port.to_bytes(2) + hello_random + client.ip
    return hashlib.blake2b(message, key=key, digest_size=COOKIE_BYTES, person=b"dtls-cookie").digest()


class HelloVerifier:
    """One OpenSSL connection that all strangers share, until it is handed to the first who returns a good cookie."""

    def __init__(self, context: SSL.Context, cookies: DtlsCookies) -> None:
        """Take a context that `verify_hellos` has prepared."""
        self.context = context
        self.refused_cookie = False  # whether the last ClientHello had a cookie that was none of its own
        self._cookies = cookies
        self._connection: SSL.Connection | None = None
        self._client = TransportAddress(b"", 0)
        self._random = b""
        self._unix_time = 0.0

    def receive(self, hello: Buffer, client: TransportAddress, unix_time: float) -> SSL.Connection | bytes | None:
        """Take one record that looks like a ClientHello, without what follows it in the datagram.

        Returns the connection that has read it if its cookie is good, a HelloVerifyRequest for the client if it has
        none or a bad one, and None if it is junk. Nothing is reassembled: a fragment that reaches beyond the cookie
        is answered like the whole, and a client that cuts its ClientHello before that never gets further.
        """
        self.refused_cookie = False
        if not _MIN_HELLO_BYTES <= len(hello) <= MAX_HELLO_BYTES:
            return None
        self._client, self._random, self._unix_time = client, bytes(hello[HELLO_RANDOM]), unix_time
        connection = self._connection or self._listen()
        try:
            connection.bio_write(hello)
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            try:
                return connection.bio_read(MAX_HELLO_BYTES)
            except SSL.WantReadError:
                return None
        except SSL.Error:
            self._connection = None  # nobody promises what state it is in
            return None
        self._connection = None
        connection.set_app_data(None)
        return connection

    def replace_context(self, context: SSL.Context) -> None:
        """Meet the next stranger with another certificate."""
        self.context = context
        self._connection = None

    def make_cookie(self) -> bytes:
        """A cookie for the client whose ClientHello OpenSSL is reading."""
        return self._cookies.make(self._client, self._random, self._unix_time)

    def accepts(self, cookie: bytes) -> bool:
        """Whether the cookie in that ClientHello is the client's own."""
        accepted = self._cookies.accepts(cookie, self._client, self._random, self._unix_time)
        self.refused_cookie = not accepted
        return accepted

    def _listen(self) -> SSL.Connection:
        connection = self._connection = SSL.Connection(self.context)
        connection.set_accept_state()
        connection.set_ciphertext_mtu(HANDSHAKE_MTU_BYTES)
        connection.set_app_data(self)
        return connection


def verify_hellos(context: SSL.Context) -> None:
    """Let OpenSSL ask the `HelloVerifier` of a connection for its cookies; several may share the context."""
    context.set_cookie_generate_callback(_make_cookie)
    context.set_cookie_verify_callback(_accepts)


def _make_cookie(connection: SSL.Connection) -> bytes:
    return cast("HelloVerifier", connection.get_app_data()).make_cookie()


def _accepts(connection: SSL.Connection, cookie: bytes) -> bool:
    verifier = cast("HelloVerifier | None", connection.get_app_data())
    # OpenSSL reads the ClientHello again when the handshake begins, and asks again: then it has been accepted.
    return verifier is None or verifier.accepts(cookie)
