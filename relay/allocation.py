"""An allocation: what one client holds, one relayed transport address or one of each family (RFC 8656 §6)."""

import re
from typing import TYPE_CHECKING, Final

from relay.channel_binding import ChannelBinding
from relay.datapath import NO_TRAFFIC, DataPath
from relay.five_tuple import FiveTuple
from relay.permission import Permission
from stun.address import TransportAddress

if TYPE_CHECKING:
    from relay.authenticator import Identity

_TRIALS: Final = ":test:"  # what `holder_of` makes of the user names of tests begins so
_TIME_LIMITED: Final = re.compile(r"[0-9]{1,12}:(.+)", re.ASCII | re.DOTALL)


class RelayedTransportAddress:
    """One relayed transport address, and its handle in the forwarding plane."""

    __slots__ = ("address", "expires_at", "handle", "port")

    def __init__(self, address: TransportAddress, port: int, handle: int, expires_at: float) -> None:
        self.address = address  # as peers see it
        self.port = port
        self.handle = handle
        self.expires_at = expires_at


class Allocation:
    """What the control plane knows of one allocation; the forwarding plane holds its own copy of what it needs."""

    __slots__ = (
        "bucket",
        "channels",
        "circle",
        "created_at",
        "expires_at",
        "holder",
        "identity",
        "is_stranded",
        "path",
        "peers",
        "permissions",
        "plane",
        "protocol",
        "relays",
        "released_by",
        "reservation_token",
        "serial",
        "traffic",
        "transaction_id",
        "unavailable",
    )

    def __init__(
        self, path: FiveTuple, holder: str, protocol: int, plane: DataPath, transaction_id: bytes, created_at: float
    ) -> None:
        self.path = path
        self.holder = holder  # see `holder_of`
        self.protocol = protocol  # of its relayed transport addresses, as REQUESTED-TRANSPORT names it
        self.plane = plane  # which moves its bytes
        self.transaction_id = transaction_id  # of the Allocate request: a retransmission is answered alike
        self.created_at = created_at
        self.circle = ""  # of a connection test: which relayed clients it may meet; see `relay.trial`
        self.expires_at = created_at  # the latest of its relayed transport addresses
        self.relays: dict[int, RelayedTransportAddress] = {}  # by address family
        self.serial: int | None = None  # what a mobile allocation is known by (RFC 8016)
        self.is_stranded = False  # whether the connection of its client has ended, so that only its ticket finds it
        self.unavailable: tuple[int, int] | None = None  # family and error code of the half that could not be had
        self.released_by: bytes | None = None  # transaction ID of the Refresh that ended one half of it
        self.reservation_token: bytes | None = None
        self.permissions: dict[bytes, Permission] = {}
        self.channels: dict[int, ChannelBinding] = {}
        self.peers: dict[TransportAddress, ChannelBinding] = {}  # the same bindings, by peer
        self.traffic = NO_TRAFFIC  # of a half that has ended before the other
        self.identity: Identity | None = None  # who was authenticated last on this path
        self.bucket: int | None = None

    def is_here(self, now: float) -> bool:
        """Whether its five-tuple speaks for it: it has not expired, and the connection of its client has not ended."""
        return self.expires_at > now and not self.is_stranded

    def has_permission(self, ip: bytes, now: float) -> bool:
        """Whether a live permission lets this peer IP address through."""
        permission = self.permissions.get(ip)
        return permission is not None and permission.expires_at > now

    def live_relay(self, family: int, now: float) -> RelayedTransportAddress | None:
        """The relayed transport address of a family, if there is one that has not expired."""
        relay = self.relays.get(family)
        return relay if relay is not None and relay.expires_at > now else None

    def live_channel(self, number: int, now: float) -> ChannelBinding | None:
        """The live binding of a channel number, if there is one."""
        binding = self.channels.get(number)
        return binding if binding is not None and binding.expires_at > now else None

    def live_peer(self, peer: TransportAddress, now: float) -> ChannelBinding | None:
        """The live binding of a peer, if there is one."""
        binding = self.peers.get(peer)
        return binding if binding is not None and binding.expires_at > now else None

    def last_expiry(self) -> float:
        """When the last of its relayed transport addresses expires."""
        return max(relay.expires_at for relay in self.relays.values())

    def next_deadline(self) -> float:
        """The first instant at which something of this allocation expires, itself included."""
        at = self.expires_at
        for relay in self.relays.values():
            at = min(at, relay.expires_at)
        for permission in self.permissions.values():
            at = min(at, permission.expires_at)
        for binding in self.channels.values():
            at = min(at, binding.expires_at)
        return at


def holder_of(realm: str, username: str) -> str:
    """Whom an allocation belongs to, and whom the quota counts for: one user name in two realms is two users.

    Time-limited names (`expiry:identity`) with the same identity are one user, whenever they expire: else whoever gets
    a fresh name whenever he asks had a quota with each of them.
    """
    match = _TIME_LIMITED.fullmatch(username)
    if match is None:
        return f"{realm}\0{username}"
    return f"{realm}\0:{match[1]}"  # with a colon: the static user `identity` is another one


def trials_of(holder: str) -> str | None:
    """As a holder it counts for all connection tests of a realm; None if `holder` is another user."""
    at = holder.index("\0") + 1
    return holder[: at + len(_TRIALS)] if holder.startswith(_TRIALS, at) else None


def realm_of(holder: str) -> str:
    """The name of the realm in what `holder_of` made; as a holder it counts for all users of the realm."""
    return holder[: holder.index("\0")]
