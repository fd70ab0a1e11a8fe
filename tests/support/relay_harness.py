"""A whole TURN server without I/O: simulated time, a recording forwarding plane, and clients that speak to it."""

import itertools
from typing import Any

from relay.allocation import holder_of
from relay.allocator import Allocator
from relay.authenticator import Authenticator
from relay.datapath import RelayAddress
from relay.events import Event
from relay.five_tuple import FiveTuple, Transport
from relay.ledger import Ledger
from relay.mobility import MobilityTickets
from relay.peer_policy import PeerPolicy
from relay.port_pool import PortPool
from relay.quota import UserQuota
from relay.realm import NO_LIMIT, Realm, Realms
from relay.reservation import Reservations
from relay.settings import RelaySettings
from relay.source_guard import SourceGuard
from relay.tcp_allocation import Command
from relay.tcp_relaying import TcpRelaying
from relay.trial import ALLOCATION_BURST, ALLOCATIONS_PER_SECOND
from relay.turn_server import Transmit, TurnServer
from relay.wish import TCP_PROTOCOL, UDP_PROTOCOL
from stun.address import IPV6, TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
)
from stun.credentials import CredentialBook
from stun.nonce import NonceSealer
from stun.registry import Method
from tests.support.fake_datapath import FakeDataPath, FakeRelay
from tests.support.turn_client import Field, Response, TurnClient

USERS = {"alice": "wonderland", "bob": "builder"}
SECRET = b"a shared secret of thirty-two bytes, or more"
SECRETS = {"current": SECRET}
NONCE_KEY = b"key of the nonces"
RELAY_V4 = TransportAddress.parse("198.41.0.4", 0).ip
RELAY_V6 = TransportAddress.parse("2a02:8109::4", 0).ip
SERVER = TransportAddress.parse("198.41.0.4", 3478)
START_UNIX = 1_763_800_000.0


def peer(text: str, port: int = 4000) -> TransportAddress:
    return TransportAddress.parse(text, port)


class RelayHarness:
    """Plays the shell of one TURN server."""

    def __init__(self, *, families: int = 2, peers: dict[str, Any] | None = None, **settings: Any) -> None:  # noqa: ANN401
        self.settings = RelaySettings.model_validate(
            {"users": USERS, "port_min": 50_000, "port_max": 50_099, "peers": peers or {}, **settings}
        )
        self.now = 1_000.0
        self.plane = FakeDataPath()
        self.tcp_plane = FakeDataPath()
        self.late: list[Transmit] = []  # answers and indications of TCP allocations, which follow nobody's request
        self.commands: list[Command] = []  # what the sockets of TCP allocations were told
        self.events: list[Event] = []
        addresses = [RelayAddress(RELAY_V4, RELAY_V4), RelayAddress(RELAY_V6, RELAY_V6)][:families]
        numbers = itertools.count(1)

        def entropy(size: int) -> bytes:
            # Multiples of a large odd number scatter over the ports, and never repeat as tokens.
            return (next(numbers) * 2_654_435_761 % (1 << 8 * size)).to_bytes(size)

        share = self.settings.quota.total_share_percent
        self.ports = {
            TransportAddress(address.bound, 0).family: PortPool(
                self.settings.port_min, self.settings.port_max, share, entropy
            )
            for address in addresses
        }
        self.quota = UserQuota()
        self.reservations = Reservations(entropy)
        ledger = Ledger(self.ports, self.quota, self.reservations)
        trial_guard = SourceGuard(bytes(8), per_second=ALLOCATIONS_PER_SECOND, burst=ALLOCATION_BURST)
        self.allocator = Allocator(addresses, ledger, trial_guard)
        self.policy = self.peer_policy()
        self.tcp = TcpRelaying(entropy) if self.settings.tcp_allocations else None
        self.mobility = MobilityTickets(entropy) if self.settings.mobility else None
        self.server = TurnServer(
            self.settings,
            authenticator=self.authenticator(self.settings),
            guard=self.guard(),
            planes={UDP_PROTOCOL: self.plane, TCP_PROTOCOL: self.tcp_plane},
            allocator=self.allocator,
            tcp=self.tcp,
            mobility=self.mobility,
        )
        self._client_ports = itertools.count(10_000)

    def peer_policy(self) -> PeerPolicy:
        """What the settings allow; the relay addresses are the machine's own."""
        peers = self.settings.peers
        return PeerPolicy(allow=peers.allow, deny=peers.deny, own_relays=(RELAY_V4, RELAY_V6))

    def authenticator(self, settings: RelaySettings, *realms: Realm) -> Authenticator:
        """An authenticator for the users of the harness, and for further realms."""
        per_user = settings.quota.allocations_per_user
        book = CredentialBook(settings.realm, USERS, SECRETS)
        return self.authenticator_of(*realms, Realm(settings.realm, book, self.policy, per_user, NO_LIMIT))

    def authenticator_of(self, *realms: Realm) -> Authenticator:
        """An authenticator for these realms."""
        nonces = NonceSealer([NONCE_KEY], self.settings.nonce_lifetime_seconds)
        return Authenticator(Realms(realms), nonces, offers_algorithms=self.settings.password_algorithms)

    def guard(self) -> SourceGuard:
        """Bounds the answers to strangers."""
        quota = self.settings.quota
        return SourceGuard(bytes(8), per_second=quota.challenges_per_second, burst=quota.challenge_burst)

    def held(self, username: str) -> int:
        """What the quota counts for a user."""
        return self.quota.held(holder_of(self.settings.realm, username))

    def configure(self, *realms: Realm, **settings: Any) -> None:  # noqa: ANN401
        """Reload with other settings."""
        self.settings = RelaySettings.model_validate({**self.settings.model_dump(), **settings})
        self.policy = self.peer_policy()
        self.server.configure(self.settings, self.authenticator(self.settings, *realms), self.guard())

    def reconfigure_general(self, book: CredentialBook) -> None:
        """Reload with other users and secrets of the general realm."""
        per_user = self.settings.quota.allocations_per_user
        self.server.configure(
            self.settings, self.authenticator_of(Realm(book.realm, book, self.policy, per_user, NO_LIMIT)), self.guard()
        )

    @property
    def unix_time(self) -> float:
        return START_UNIX + self.now

    def client(
        self,
        username: str = "alice",
        password: str | None = None,
        transport: Transport = Transport.UDP,
        server: TransportAddress = SERVER,
    ) -> "RelayedClient":
        """A client at an address of its own."""
        address = peer("91.198.174.192", next(self._client_ports))
        password = USERS.get(username, "") if password is None else password
        return RelayedClient(self, FiveTuple(transport, server, address), TurnClient(username, password))

    def receive(self, data: bytes, path: FiveTuple) -> list[bytes]:
        """Hand bytes to the server; returns what it answers, all of which must go to the sender."""
        self.server.receive(data, path, self.now, self.unix_time)
        return self._drain(path, data[8:20])

    def disconnect(self, path: FiveTuple) -> None:
        self.server.disconnect(path, self.now)
        self._drain(path)

    def close(self) -> None:
        self.server.close(self.now)
        self._drain(None)

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the server whenever it wants to be woken."""
        end = self.now + seconds
        while (due := self.server.poll_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.server.handle_timeout(self.now)
            self._drain(None)
            following = self.server.poll_timeout()
            assert following is None or following > self.now, "a timeout stays in the past"
        self.now = end

    def jump(self, seconds: float) -> None:
        """Let time pass without waking the server, as a busy loop would."""
        self.now += seconds

    def drain_tcp(self) -> list[Transmit]:
        """What became due for TCP allocations when their sockets reported something."""
        self._drain(None)
        late, self.late = self.late, []
        return late

    def _drain(self, path: FiveTuple | None, transaction_id: bytes = b"") -> list[bytes]:
        answers = []
        while (transmit := self.server.poll_transmit()) is not None:
            data, to = transmit
            if self.tcp is not None and (to != path or data[8:20] != transaction_id):
                self.late.append(transmit)
                continue
            assert to == path, "an answer went elsewhere"
            answers.append(data)
        while self.tcp is not None and (command := self.tcp.poll_command()) is not None:
            self.commands.append(command)
        while (event := self.server.poll_event()) is not None:
            self.events.append(event)
        return answers


class RelayedClient:
    """A TURN client wired to a harness."""

    def __init__(self, harness: RelayHarness, path: FiveTuple, turn: TurnClient) -> None:
        self.harness = harness
        self.path = path
        self.turn = turn
        self.sent = b""  # last

    def send(self, data: bytes) -> list[bytes]:
        self.sent = data
        return self.harness.receive(data, self.path)

    def ask_once(self, method: int, *fields: Field, transaction_id: bytes | None = None) -> Response:
        """One request, exactly one answer."""
        (answer,) = self.send(self.turn.build(method, *fields, transaction_id=transaction_id))
        return self.turn.read(answer)

    def ask(self, method: int, *fields: Field, transaction_id: bytes | None = None) -> Response:
        """As `ask_once`, after a challenge if there was none yet."""
        if self.turn.nonce is None:
            assert self.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).code == 401
        return self.ask_once(method, *fields, transaction_id=transaction_id)

    def allocate(self, *fields: Field, transaction_id: bytes | None = None) -> Response:
        return self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), *fields, transaction_id=transaction_id)

    def allocate_v6(self) -> Response:
        return self.allocate((REQUESTED_ADDRESS_FAMILY, IPV6))

    def refresh(self, lifetime: int | None = None, *fields: Field) -> Response:
        wish: tuple[Field, ...] = () if lifetime is None else ((LIFETIME, lifetime),)
        return self.ask(Method.REFRESH, *wish, *fields)

    def permit(self, *peers: TransportAddress) -> Response:
        return self.ask(Method.CREATE_PERMISSION, *((XOR_PEER_ADDRESS, each) for each in peers))

    def bind(self, number: int, to: TransportAddress) -> Response:
        return self.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, to))

    @property
    def relay(self) -> FakeRelay:
        """What the forwarding plane holds for this client."""
        (relay,) = self.relays
        return relay

    @property
    def relays(self) -> list[FakeRelay]:
        """All that the forwarding planes hold for this client."""
        planes = (self.harness.plane, self.harness.tcp_plane)
        return [relay for plane in planes for relay in plane.relays.values() if relay.path == self.path]

    @property
    def permitted(self) -> dict[bytes, float]:
        """When each permission expires, in both halves of a dual allocation."""
        return {ip: expiry for relay in self.relays for ip, expiry in relay.peers.items()}

    @property
    def bound(self) -> dict[int, tuple[TransportAddress, float]]:
        """Peer and expiry of each channel, in both halves of a dual allocation."""
        return {number: bound for relay in self.relays for number, bound in relay.channels.items()}

    @property
    def has_relay(self) -> bool:
        return any(relay.path == self.path for relay in self.harness.plane.relays.values())
