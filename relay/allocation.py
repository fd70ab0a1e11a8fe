"""An allocation: one client's relayed transport address with its permissions and channels (RFC 8656 §6)."""

from relay.channel_binding import ChannelBinding
from relay.datapath import RelayAddress
from relay.five_tuple import FiveTuple
from relay.permission import Permission
from stun.address import TransportAddress


class Allocation:
    """What the control plane knows of one allocation; the forwarding plane holds its own copy of what it needs."""

    __slots__ = (
        "bucket",
        "channels",
        "created_at",
        "expires_at",
        "family",
        "handle",
        "path",
        "peers",
        "permissions",
        "port",
        "relayed",
        "reservation_token",
        "transaction_id",
        "username",
    )

    def __init__(
        self,
        path: FiveTuple,
        username: str,
        transaction_id: bytes,
        relay_address: RelayAddress,
        port: int,
        handle: int,
        created_at: float,
        expires_at: float,
    ) -> None:
        self.path = path
        self.username = username
        self.transaction_id = transaction_id  # of the Allocate request: a retransmission is answered alike
        self.port = port
        self.handle = handle
        self.created_at = created_at
        self.expires_at = expires_at
        self.reservation_token: bytes | None = None
        self.permissions: dict[bytes, Permission] = {}
        self.channels: dict[int, ChannelBinding] = {}
        self.peers: dict[TransportAddress, ChannelBinding] = {}  # the same bindings, by peer
        self.bucket: int | None = None
        self.relayed = TransportAddress(relay_address.advertised, port)  # as peers see it
        self.family = self.relayed.family

    def has_permission(self, ip: bytes, now: float) -> bool:
        """Whether a live permission lets this peer IP address through."""
        permission = self.permissions.get(ip)
        return permission is not None and permission.expires_at > now

    def live_channel(self, number: int, now: float) -> ChannelBinding | None:
        """The live binding of a channel number, if there is one."""
        binding = self.channels.get(number)
        return binding if binding is not None and binding.expires_at > now else None

    def live_peer(self, peer: TransportAddress, now: float) -> ChannelBinding | None:
        """The live binding of a peer, if there is one."""
        binding = self.peers.get(peer)
        return binding if binding is not None and binding.expires_at > now else None

    def next_deadline(self) -> float:
        """The first instant at which something of this allocation expires, itself included."""
        instants = [self.expires_at]
        instants += [permission.expires_at for permission in self.permissions.values()]
        instants += [binding.expires_at for binding in self.channels.values()]
        return min(instants)
