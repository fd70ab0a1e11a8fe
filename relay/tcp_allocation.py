"""TCP allocations (RFC 6062): which peer connection belongs to whom, and what is due for it.

One table for the whole server, because a ConnectionBind comes over a connection of its own and knows nothing but the
CONNECTION-ID. The sockets are elsewhere; every connection is known by its CONNECTION-ID from the first instant.

    connecting --dialled--> waiting for ConnectionBind --bind--> bound --closed--> gone
    accepted from a peer -----^                                          (or expired, or its allocation has ended)

What the caller does, beyond what each method says:

- Allocate with REQUESTED-TRANSPORT 6 is read by `relay.wish`; the relayed transport address is a listening TCP socket.
  Switched off, it is 442 as before.
- Connect: 437 without a TCP allocation on this control connection, 441 for another user's, 400 without
  XOR-PEER-ADDRESS, 443 for the other family, 403 by the peer policy; then `connect`. A permission is not needed
  (RFC 6062 §5.2), for the client itself asks. The answer follows later, as `Connected` or `ConnectFailed`.
- ConnectionBind: authenticated as every request, then `bind`; the success response is the last message of that
  connection, which is then handed over by the `Pair` command.
- ChannelBind on a TCP allocation: 400. A Send indication is dropped. CreatePermission is as ever.
- `end` when the allocation ends, `closed` when either side of a connection is lost, `handle_timeout` at `poll_timeout`.

After each call the caller drains `poll_answer`, sends what is due, and then drains `poll_command`, so that a response
is on its way before its connection becomes a pipe.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, Final, Generic, NamedTuple, TypeVar

from relay.errors import BadRequest, InsufficientCapacity, RequestRejected, WrongCredentials
from relay.five_tuple import STREAMS, FiveTuple
from stun.address import TransportAddress
from stun.registry import ErrorCode

DIAL_SECONDS: Final = 30.0  # a peer has at least this long to accept (RFC 6062 §5.2)
BIND_SECONDS: Final = 30.0  # a client has this long to send ConnectionBind (RFC 6062 §5.2, §5.3)
MAX_PER_ALLOCATION: Final = 32  # peer connections
MAX_CONNECTIONS: Final = 4096  # peer connections of all allocations: each holds one descriptor, when bound two

_ID_BYTES: Final = 4

R = TypeVar("R")


class ConnectionAlreadyExists(RequestRejected):
    """446: this allocation has a connection to this peer, or is about to (RFC 6062 §5.2)."""

    code: ClassVar[ErrorCode] = ErrorCode.CONNECTION_ALREADY_EXISTS


class ConnectionTimeoutOrFailure(RequestRejected):
    """447: the peer cannot be reached (RFC 6062 §5.2)."""

    code: ClassVar[ErrorCode] = ErrorCode.CONNECTION_TIMEOUT_OR_FAILURE


class Connected(NamedTuple, Generic[R]):
    """A success response to this Connect request is due, with CONNECTION-ID."""

    request: R
    connection_id: int


class ConnectFailed(NamedTuple, Generic[R]):
    """An error response to this Connect request is due."""

    request: R
    error: RequestRejected


class ConnectionAttempt(NamedTuple):
    """This indication is due on the allocation's control connection, with XOR-PEER-ADDRESS and CONNECTION-ID."""

    allocation: int
    connection_id: int
    peer: TransportAddress


class Dial(NamedTuple):
    """Connect to the peer from the relayed transport address; then call `dialled` or `dial_failed`."""

    connection_id: int
    allocation: int
    peer: TransportAddress


class Pair(NamedTuple):
    """Pass bytes between the peer and this client's connection, beginning with those that wait on either side."""

    connection_id: int
    client: FiveTuple


class Close(NamedTuple):
    """Close the peer's socket, and the client's data connection if there is one. The id means nothing any more."""

    connection_id: int


Command = Dial | Pair | Close


class _State(Enum):
    CONNECTING = "connecting"
    WAITING = "waiting"  # for ConnectionBind
    BOUND = "bound"


class _PeerConnection(Generic[R]):
    """A connection between a relayed transport address and a peer."""

    __slots__ = ("allocation", "client", "connection_id", "expires_at", "peer", "request", "state")

    def __init__(self, connection_id: int, allocation: int, peer: TransportAddress, expires_at: float) -> None:
        self.connection_id = connection_id
        self.allocation = allocation
        self.peer = peer
        self.expires_at = expires_at  # until it is bound
        self.state = _State.WAITING
        self.request: R | None = None  # the Connect that has not been answered
        self.client: FiveTuple | None = None  # the data connection


class _TcpAllocation(Generic[R]):
    """The peer connections of one allocation."""

    __slots__ = ("holder", "peers")

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.peers: dict[TransportAddress, _PeerConnection[R]] = {}


class TcpAllocations(Generic[R]):
    """The peer connections of all TCP allocations. `R` is whatever the caller needs to answer a Connect request."""

    def __init__(
        self,
        entropy: Callable[[int], bytes],
        *,
        max_per_allocation: int = MAX_PER_ALLOCATION,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Begin without allocations.

        Args:
            entropy: cryptographically strong random bytes of the given number.
            max_per_allocation: peer connections of one allocation.
            max_connections: peer connections of all allocations.
        """
        self._entropy = entropy
        self._max_per_allocation = max_per_allocation
        self._max_connections = max_connections
        self._allocations: dict[int, _TcpAllocation[R]] = {}
        self._connections: dict[int, _PeerConnection[R]] = {}
        self._by_client: dict[FiveTuple, _PeerConnection[R]] = {}
        # Both kinds of deadline are equally far away, so that the order of arrival is the order of expiry.
        self._expiring: dict[int, _PeerConnection[R]] = {}
        self._answers: deque[Connected[R] | ConnectFailed[R] | ConnectionAttempt] = deque()
        self._commands: deque[Command] = deque()

    def __len__(self) -> int:
        """Peer connections in any state."""
        return len(self._connections)

    def begin(self, allocation: int, holder: str) -> None:
        """A TCP allocation was made.

        Args:
            allocation: its handle.
            holder: who may bind its connections: user and realm, in one string that is unambiguous.

        Raises:
            ValueError: it has begun already; that is a bug of the caller.
        """
        if allocation in self._allocations:
            raise ValueError(f"allocation {allocation} has begun already")
        self._allocations[allocation] = _TcpAllocation(holder)

    def end(self, allocation: int) -> None:
        """The allocation has ended, and with it all of its connections (RFC 6062 §5.5). Others are let pass."""
        ended = self._allocations.get(allocation)
        if ended is None:
            return
        for connection in list(ended.peers.values()):
            self._close(connection, "allocation_ended")
        del self._allocations[allocation]

    def connect(self, allocation: int, peer: TransportAddress, request: R, now: float) -> None:
        """Dial a peer that the policy allows (RFC 6062 §5.2); `request` comes back with the answer.

        Raises:
            ConnectionAlreadyExists: there is a connection to this peer, in whatever state.
            InsufficientCapacity: the allocation or the server has too many.
            KeyError: there is no such TCP allocation; that is a bug of the caller.
        """
        peers = self._allocations[allocation].peers
        if peer in peers:
            raise ConnectionAlreadyExists("peer_connection_exists")
        if not self._has_room(allocation):
            raise InsufficientCapacity("peer_connections")
        connection = self._add(allocation, peer, now + DIAL_SECONDS)
        connection.state = _State.CONNECTING
        connection.request = request
        self._commands.append(Dial(connection.connection_id, allocation, peer))

    def dialled(self, connection_id: int, now: float) -> None:
        """The peer has accepted; the client has 30 seconds to bind the connection."""
        connection = self._connections.get(connection_id)
        if connection is None or connection.state is not _State.CONNECTING:
            return
        connection.state = _State.WAITING
        connection.expires_at = now + BIND_SECONDS
        del self._expiring[connection_id]
        self._expiring[connection_id] = connection
        if connection.request is not None:
            self._answers.append(Connected(connection.request, connection_id))
            connection.request = None

    def dial_failed(self, connection_id: int) -> None:
        """The peer cannot be reached."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            self._close(connection, "dial_failed")

    def accept(self, allocation: int, peer: TransportAddress, now: float, *, is_permitted: bool) -> int | None:
        """A peer has connected to the relayed transport address (RFC 6062 §5.3).

        Args:
            allocation: whose address it is.
            peer: where it connected from.
            now: monotonic time, in seconds.
            is_permitted: whether the allocation has a live permission for the peer's IP address.

        Returns:
            the CONNECTION-ID, or None: then the connection is to be closed at once, and nobody is told.
        """
        owner = self._allocations.get(allocation)
        if owner is None or not is_permitted:
            return None
        stale = owner.peers.get(peer)
        if stale is not None:
            # The kernel knows one connection between two addresses, so the earlier one is dead and we were not told.
            self._close(stale, "replaced")
        if not self._has_room(allocation):
            return None
        connection = self._add(allocation, peer, now + BIND_SECONDS)
        self._answers.append(ConnectionAttempt(allocation, connection.connection_id, peer))
        return connection.connection_id

    def bind(self, connection_id: int | None, client: FiveTuple, holder: str) -> None:
        """Make a client's connection the other end of a peer's (RFC 6062 §5.4).

        Args:
            connection_id: value of CONNECTION-ID, None without the attribute.
            client: the connection that the ConnectionBind came over; it has no allocation of its own (the caller
                answers 400 otherwise).
            holder: who sent the request, as in `begin`.

        Raises:
            BadRequest: not over TCP or TLS, over a connection that is a data connection already, or the id is not
                that of a connection which waits.
            WrongCredentials: the connection belongs to another user's allocation, and goes on waiting for its owner.
        """
        if client.transport not in STREAMS:
            raise BadRequest("bind_without_stream")
        if client in self._by_client:
            raise BadRequest("data_connection")
        connection = None if connection_id is None else self._connections.get(connection_id)
        if connection is None or connection.state is not _State.WAITING:
            raise BadRequest("connection_id")
        if self._allocations[connection.allocation].holder != holder:
            raise WrongCredentials("connection_of_other_user")
        connection.state = _State.BOUND
        connection.client = client
        del self._expiring[connection.connection_id]
        self._by_client[client] = connection
        self._commands.append(Pair(connection.connection_id, client))

    def closed(self, connection_id: int) -> None:
        """The peer's socket or the pipe was lost: the other side is closed, too (RFC 6062 §5.5)."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            self._close(connection, "closed")

    def client_lost(self, client: FiveTuple) -> None:
        """A client's connection has ended; if it was a data connection, its peer is let go."""
        connection = self._by_client.get(client)
        if connection is not None:
            self._close(connection, "client_lost")

    def handle_timeout(self, now: float) -> None:
        """Give up peers that do not accept, and connections that nobody bound."""
        for connection in list(self._expiring.values()):
            if connection.expires_at > now:
                break
            self._close(connection, "dial_timeout")

    def poll_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called, in monotonic seconds."""
        return next(iter(self._expiring.values())).expires_at if self._expiring else None

    def poll_answer(self) -> Connected[R] | ConnectFailed[R] | ConnectionAttempt | None:
        """The next message that is due on a control connection."""
        return self._answers.popleft() if self._answers else None

    def poll_command(self) -> Command | None:
        """What the sockets have to do next."""
        return self._commands.popleft() if self._commands else None

    def _has_room(self, allocation: int) -> bool:
        return (
            len(self._allocations[allocation].peers) < self._max_per_allocation
            and len(self._connections) < self._max_connections
        )

    def _add(self, allocation: int, peer: TransportAddress, expires_at: float) -> _PeerConnection[R]:
        connection_id = int.from_bytes(self._entropy(_ID_BYTES))
        while connection_id in self._connections:
            connection_id = int.from_bytes(self._entropy(_ID_BYTES))
        connection: _PeerConnection[R] = _PeerConnection(connection_id, allocation, peer, expires_at)
        self._connections[connection_id] = self._expiring[connection_id] = connection
        self._allocations[allocation].peers[peer] = connection
        return connection

    def _close(self, connection: _PeerConnection[R], cause: str) -> None:
        del self._connections[connection.connection_id]
        del self._allocations[connection.allocation].peers[connection.peer]
        self._expiring.pop(connection.connection_id, None)
        if connection.client is not None:
            del self._by_client[connection.client]
        if connection.request is not None:
            self._answers.append(ConnectFailed(connection.request, ConnectionTimeoutOrFailure(cause)))
        self._commands.append(Close(connection.connection_id))
