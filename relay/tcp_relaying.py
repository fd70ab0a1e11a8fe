"""RFC 6062 on the control plane: Connect and ConnectionBind, their late answers, and what the sockets are told."""

from collections.abc import Callable
from typing import NamedTuple

from relay.allocation import Allocation
from relay.errors import BadRequest
from relay.five_tuple import FiveTuple
from relay.tcp_allocation import Command, Connected, ConnectFailed, TcpAllocations
from stun.address import TransportAddress
from stun.attributes import CONNECTION_ID, XOR_PEER_ADDRESS
from stun.integrity import IntegrityKey
from stun.message import Message, encode_error, encode_message, encode_success
from stun.registry import MessageClass, Method


class Asked(NamedTuple):
    """A Connect request that waits for its peer."""

    request: Message
    path: FiveTuple
    key: IntegrityKey


class Due(NamedTuple):
    """One message that is due on a control connection."""

    data: bytes
    path: FiveTuple


class TcpRelaying:
    """Joins TCP allocations to their clients; `relay.tcp_allocation` keeps the table of connections."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        """Begin without allocations.

        Args:
            entropy: cryptographically strong random bytes of the given number.
        """
        self._entropy = entropy
        self._table: TcpAllocations[Asked] = TcpAllocations(entropy)
        self._owners: dict[int, Allocation] = {}  # by handle

    def begin(self, allocation: Allocation) -> None:
        """A TCP allocation was made."""
        for relay in allocation.relays.values():
            self._table.begin(relay.handle, allocation.holder)
            self._owners[relay.handle] = allocation

    def end(self, handle: int) -> None:
        """A relayed transport address of a TCP allocation is about to be closed."""
        self._table.end(handle)
        self._owners.pop(handle, None)

    def is_relayed(self, address: TransportAddress) -> bool:
        """Whether this is the relayed transport address of a TCP allocation."""
        return any(relay.address == address for each in self._owners.values() for relay in each.relays.values())

    def connect(self, allocation: Allocation, peer: TransportAddress, asked: Asked, now: float) -> None:
        """Dial a peer of a family that the allocation has, and that the policy allows; the answer follows.

        Raises:
            ConnectionAlreadyExists: it has a connection to this peer.
            InsufficientCapacity: too many connections.
        """
        self._table.connect(allocation.relays[peer.family].handle, peer, asked, now)

    def bind(self, request: Message, path: FiveTuple, holder: str, *, has_allocation: bool) -> tuple[bytes, ...]:
        """Make the connection that this request came over the other end of a peer's.

        Raises:
            BadRequest: it is no connection of its own, or CONNECTION-ID is not that of one that waits.
            WrongCredentials: the peer's connection belongs to another user.
        """
        if has_allocation:
            raise BadRequest("control_connection")
        connection_id = request.get(CONNECTION_ID)
        self._table.bind(connection_id, path, holder)
        return () if connection_id is None else (CONNECTION_ID.pack(connection_id),)

    def accept(self, handle: int, peer: TransportAddress, now: float) -> int | None:
        """A peer has connected to a relayed transport address: its CONNECTION-ID, or None without a permission."""
        owner = self._owners.get(handle)
        relay = None if owner is None else owner.live_relay(peer.family, now)
        is_its_own = relay is not None and relay.handle == handle  # not that of the other family
        permitted = owner is not None and is_its_own and owner.has_permission(peer.ip, now)
        return self._table.accept(handle, peer, now, is_permitted=permitted)

    def dialled(self, connection_id: int, now: float) -> None:
        """A peer has accepted."""
        self._table.dialled(connection_id, now)

    def dial_failed(self, connection_id: int) -> None:
        """A peer cannot be reached."""
        self._table.dial_failed(connection_id)

    def closed(self, connection_id: int) -> None:
        """Either end of a connection is lost."""
        self._table.closed(connection_id)

    def client_lost(self, path: FiveTuple) -> None:
        """A client's connection has ended."""
        self._table.client_lost(path)

    def handle_timeout(self, now: float) -> None:
        """Give up what has waited too long."""
        self._table.handle_timeout(now)

    def poll_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, in monotonic seconds."""
        return self._table.poll_timeout()

    def poll_transmit(self) -> Due | None:
        """The next message that is due; all of them are sent before a command is carried out."""
        while (answer := self._table.poll_answer()) is not None:
            if isinstance(answer, Connected):
                asked = answer.request
                attributes = (CONNECTION_ID.pack(answer.connection_id),)
                return Due(encode_success(asked.request, attributes, key=asked.key), asked.path)
            if isinstance(answer, ConnectFailed):
                asked = answer.request
                data = encode_error(asked.request, answer.error.code, with_reason=True, key=asked.key)
                return Due(data, asked.path)
            owner = self._owners.get(answer.allocation)
            if owner is not None:
                return Due(self._attempt(answer.connection_id, answer.peer), owner.path)
        return None

    def poll_command(self) -> Command | None:
        """What the sockets have to do next."""
        return self._table.poll_command()

    def _attempt(self, connection_id: int, peer: TransportAddress) -> bytes:
        transaction_id = self._entropy(12)
        attributes = (CONNECTION_ID.pack(connection_id), XOR_PEER_ADDRESS.pack(peer, transaction_id))
        return encode_message(Method.CONNECTION_ATTEMPT, MessageClass.INDICATION, transaction_id, attributes)
