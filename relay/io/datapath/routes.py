"""Where a client's data goes: permissions, bound channels, and peers of Send indications (RFC 8656 §9, §11, §12)."""

from typing import TYPE_CHECKING

from relay.io.datapath.segments import Destination, SocketAddress

if TYPE_CHECKING:
    from relay.io.datapath.relay_socket import RelaySocket


class Permission:
    """A peer IP address that may be sent to and heard from until `live_until`."""

    __slots__ = ("expires_at", "ip", "live_until")

    def __init__(self, ip: int) -> None:
        self.ip = ip
        self.expires_at = 0.0
        self.live_until = 0.0  # the earlier of the permission's and the allocation's expiry


class Route(Destination):
    """A peer's transport address and the relay socket that reaches it."""

    __slots__ = ("is_own", "permission", "relay")

    def __init__(self, address: SocketAddress, permission: Permission, relay: "RelaySocket", *, is_own: bool) -> None:
        super().__init__(address)
        self.permission = permission
        self.relay = relay
        self.is_own = is_own  # whether the IP address is one that our relayed transport addresses live on


class Channel(Route):
    """A bound channel."""

    __slots__ = ("expires_at", "live_until", "number")

    def __init__(
        self, number: int, address: SocketAddress, permission: Permission, relay: "RelaySocket", *, is_own: bool
    ) -> None:
        super().__init__(address, permission, relay, is_own=is_own)
        self.number = number
        self.expires_at = 0.0
        self.live_until = 0.0  # the earliest of the binding's, the permission's and the allocation's expiry
