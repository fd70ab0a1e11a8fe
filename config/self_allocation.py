"""Whether the relay really relays: an allocation made and given back through its own socket, as a client would.

A relay whose sockets are bound and whose loop turns may still have lost its secret, its ports or its descriptors.
Only an allocation shows that, and with workers one of each.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from config.health import Verdict
from relay.io.addresses import listen_addresses
from relay.settings import RelaySettings
from stun.address import TransportAddress
from stun.attributes import ERROR_CODE, LIFETIME, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME, XOR_RELAYED_ADDRESS
from stun.credentials import Credential, issue_credential, long_term_key
from stun.demux import StreamDecoder
from stun.errors import IntegrityError, MessageParseError
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_message
from stun.registry import ErrorCode, MessageClass, Method

CREDENTIAL_SECONDS: Final = 60
RETRANSMIT_SECONDS: Final = 0.2  # the first over UDP; each further one waits twice as long
ATTEMPTS: Final = 4
ANSWER_SECONDS: Final = RETRANSMIT_SECONDS * (2**ATTEMPTS - 1)  # to one request
AT_ONCE: Final = 16  # allocations; each is another user, so that no quota of a user is in the way
PASSES: Final = 8  # of so many allocations, until every worker has given one
MAX_MISSED: Final = 8  # rounds in which the kernel led no allocation to a worker, before that is held against it

_UDP_PROTOCOL: Final = 17
_TRANSACTION_ID_BYTES: Final = 12
_MAX_CHALLENGES: Final = 2  # a nonce may become stale in between
_LOOPBACK: Final = ("127.0.0.1", "::1")
_SECRET_LABEL: Final = b"redconnect self test"


class SelfAllocationFailed(Exception):
    """The relay did not do for us what it does for clients; the message says what, in one line."""


class Target(NamedTuple):
    """A listener of the relay at which the general realm is offered."""

    host: str
    port: int
    is_stream: bool

    def __str__(self) -> str:
        return f"{'TCP' if self.is_stream else 'UDP'} port {self.port}"


def self_test_secret(turn_secret: bytes) -> bytes:
    """The shared secret of these allocations: another one than that of clients, so that metrics tell them apart."""
    return hmac.digest(turn_secret, _SECRET_LABEL, hashlib.sha256)


def choose_target(settings: RelaySettings, hosts: list[str]) -> Target | None:
    """Where to ask: over loopback and UDP if that can be, else over whatever there is; None if there is nothing.

    Args:
        settings: ports, realms and load balancers.
        hosts: addresses that are listened on.
    """
    ordered = [host for host in _LOOPBACK if host in hosts] + [host for host in hosts if host not in _LOOPBACK]
    found = [Target(host, port, is_stream=False) for host in ordered for port in settings.udp_ports]
    found += [
        Target(host, port, is_stream=True)
        for host in ordered
        if not _is_behind_proxy(settings, host)
        for port in (*settings.tcp_ports, *settings.tls_ports)  # every one of them takes plain TURN, too
    ]
    return next((target for target in found if not _is_special(settings, target)), None)


class Dialogue:
    """What is said and heard for one allocation: a challenge, the allocation, its end. Without I/O."""

    def __init__(self, credential: Credential, entropy: Callable[[int], bytes]) -> None:
        """Prepare.

        Args:
            credential: of the general realm.
            entropy: gives so many random bytes.
        """
        self.relayed: TransportAddress | None = None
        self.is_over = False
        self._credential = credential
        self._entropy = entropy
        self._challenges = 0
        self._method = Method.ALLOCATE
        self._realm = self._nonce = ""
        self._key: IntegrityKey | None = None
        self._transaction_id = b""

    def next_request(self) -> bytes:
        """What to send now, and again until there is an answer."""
        transaction_id = self._transaction_id = self._entropy(_TRANSACTION_ID_BYTES)
        is_refresh = self._method is Method.REFRESH
        wish = LIFETIME.pack(0) if is_refresh else REQUESTED_TRANSPORT.pack(_UDP_PROTOCOL)
        attributes = [wish]
        if self._key is not None:
            attributes += [USERNAME.pack(self._credential.username), REALM.pack(self._realm), NONCE.pack(self._nonce)]
        return encode_message(self._method, MessageClass.REQUEST, transaction_id, attributes, key=self._key)

    def farewell(self) -> bytes:
        """What gives back an allocation that was asked for, without waiting for an answer; empty if none was."""
        if self.is_over or self._key is None:
            return b""
        self._method = Method.REFRESH
        return self.next_request()

    def receive(self, data: bytes) -> bool:
        """Take what came; True if it was the answer, so that the next request is due or all is over.

        Raises:
            SelfAllocationFailed: the relay refuses, or its answer is none of somebody who knows the secret.
        """
        try:
            return self._take(decode_message(data))
        except MessageParseError:
            return False

    def _take(self, answer: Message) -> bool:
        if answer.transaction_id != self._transaction_id or answer.method != self._method:
            return False
        if answer.message_class is MessageClass.ERROR:
            self._take_error(answer)
        elif answer.message_class is MessageClass.SUCCESS:
            self._take_success(answer)
        else:
            return False
        return True

    def _take_error(self, answer: Message) -> None:
        error = answer.get(ERROR_CODE)
        code = 0 if error is None else error.code
        realm, nonce = answer.get(REALM), answer.get(NONCE)
        is_challenge = code == ErrorCode.STALE_NONCE or (code == ErrorCode.UNAUTHENTICATED and self._key is None)
        if not is_challenge or realm is None or nonce is None or self._challenges == _MAX_CHALLENGES:
            raise SelfAllocationFailed(f"{self._method.name.capitalize()} is refused with {code}")
        self._challenges += 1
        self._realm, self._nonce = realm, nonce
        self._key = IntegrityKey(long_term_key(self._credential.username, realm, self._credential.password))

    def _take_success(self, answer: Message) -> None:
        if self._key is None or answer.integrity is None:
            raise SelfAllocationFailed(f"{self._method.name.capitalize()} succeeds without a credential")
        try:
            answer.verify(self._key)
        except IntegrityError as error:
            raise SelfAllocationFailed("somebody else answers at the port of the relay") from error
        if self._method is Method.REFRESH:
            self.is_over = True
            return
        self.relayed = answer.get(XOR_RELAYED_ADDRESS)
        if self.relayed is None:
            raise SelfAllocationFailed("Allocate succeeds without a relayed address")
        self._method = Method.REFRESH


class SelfAllocation:
    """Makes such allocations; one `probe` at a time."""

    def __init__(self, settings: RelaySettings, turn_secret: bytes, worker_of: Callable[[int], int]) -> None:
        """Prepare.

        Args:
            settings: of the relay.
            turn_secret: of this installation.
            worker_of: which of `settings.workers` relays at a port.
        """
        self._worker_of = worker_of
        self._missed = dict.fromkeys(range(settings.workers), 0)
        self.configure(settings, turn_secret)

    def configure(self, settings: RelaySettings, turn_secret: bytes) -> None:
        """Take other settings and another secret into use."""
        self._secret = self_test_secret(turn_secret)
        self.target = choose_target(settings, listen_addresses(settings))

    async def probe(self) -> Verdict:
        """Make allocations until every worker has given one, and give all of them back."""
        target = self.target
        if target is None:
            return Verdict(holds=True, reason="not tried: there is no listener for it")
        missing = set(self._missed)
        try:
            for _ in range(PASSES):
                count = min(len(self._missed), AT_ONCE)
                ports = await asyncio.gather(*(self._allocate(target, number) for number in range(count)))
                missing -= set(map(self._worker_of, ports))
                if not missing:
                    break
        except (SelfAllocationFailed, OSError) as error:
            reason = str(error) if isinstance(error, SelfAllocationFailed) else f"{target}: {error.strerror}"
            return Verdict(holds=False, reason=reason)
        for worker in self._missed:
            self._missed[worker] = self._missed[worker] + 1 if worker in missing else 0
        silent = [worker for worker, missed in self._missed.items() if missed >= MAX_MISSED]
        if silent:
            return Verdict(holds=False, reason=f"worker {silent[0]} gives no allocation at {target}")
        return Verdict(holds=True)

    async def _allocate(self, target: Target, number: int) -> int:
        """One allocation, from its challenge to its end; returns the relayed port.

        Raises:
            SelfAllocationFailed: it was not given, or not taken back.
            OSError: there is no connection.
        """
        credential = issue_credential(self._secret, int(time.time()) + CREDENTIAL_SECONDS, f"self-{number}")
        dialogue = Dialogue(credential, os.urandom)
        wire = await _connect(target)
        try:
            while not dialogue.is_over:
                await _ask(wire, dialogue, target)
        finally:
            if not target.is_stream and (farewell := dialogue.farewell()):
                wire.send(farewell)  # broken off in between, it would hold a port for ten minutes
            wire.close()
        assert dialogue.relayed is not None  # noqa: S101  # else it would not be over
        return dialogue.relayed.port


class _Wire:
    """What a socket of ours brings waits in a queue; None says that it has ended."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[bytes | None] = asyncio.Queue()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the silence tells
        self.arrived.put_nowait(None)


class _Datagrams(_Wire, asyncio.DatagramProtocol):
    """Over UDP. That nobody listens, says ICMP; retransmissions go on, for a moment later somebody may."""

    _transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002  # it is connected
        self.arrived.put_nowait(data)

    def send(self, data: bytes) -> None:
        self._transport.sendto(data)

    def close(self) -> None:
        self._transport.close()


class _Stream(_Wire, asyncio.Protocol):
    """Over TCP."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        super().__init__()
        self._decoder = StreamDecoder()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.receive(data):
                self.arrived.put_nowait(frame)
        except MessageParseError:
            self.close()

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()


async def _ask(wire: _Datagrams | _Stream, dialogue: Dialogue, target: Target) -> None:
    """Send one request until its answer has come."""
    request = dialogue.next_request()
    for attempt in range(1 if target.is_stream else ATTEMPTS):
        wire.send(request)
        try:
            async with asyncio.timeout(ANSWER_SECONDS if target.is_stream else RETRANSMIT_SECONDS * 2**attempt):
                while (data := await wire.arrived.get()) is not None:
                    if dialogue.receive(data):
                        return
                break
        except TimeoutError:
            continue
    raise SelfAllocationFailed(f"{target} does not answer")


async def _connect(target: Target) -> _Datagrams | _Stream:
    loop = asyncio.get_running_loop()
    if target.is_stream:
        return (await loop.create_connection(_Stream, target.host, target.port))[1]
    return (await loop.create_datagram_endpoint(_Datagrams, remote_addr=(target.host, target.port)))[1]


def _is_special(settings: RelaySettings, target: Target) -> bool:
    """Whether another realm is offered there, whose secrets are not ours."""
    return any(
        (not realm.addresses or target.host in realm.addresses) and (not realm.ports or target.port in realm.ports)
        for realm in settings.realms.values()
    )


def _is_behind_proxy(settings: RelaySettings, host: str) -> bool:
    """Whether connections from there must begin with a PROXY header; what we connect from is where we connect to."""
    return any(ipaddress.ip_address(host) in ipaddress.ip_network(network) for network in settings.proxy_sources)
